"""Commits: what plugins leave out of an automatic one, veto or word; and what was left out, kept on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CommitError
from gitmachine.events import GitCommitted, GitWithheld
from gitmachine.git.withheld import keep_withheld
from gitmachine.outcomes import Withheld, Withhold
from gitmachine.steps.unlocking import unlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gitmachine.git.model import Changes, Survey
    from gitmachine.plugins.dispatch import Answer
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["CHANGES_REF", "auto_commit", "commit", "note_withheld"]

CHANGES_REF = "refs/gitmachine/keep/changes"
"""Where a survey puts a commit of everything uncommitted."""

SELECT = "gitmachine_select_changes"
BEFORE = "gitmachine_before_commit"
DEFAULT_MESSAGES = {"explicit": "checkpoint", "pause": "auto: checkpoint", "stop": "auto: checkpoint"}


async def commit(
    ctx: Context, operation: Operation, message: str | None, *, reason: str, auto: bool = False
) -> str | None:
    """Commit everything; returns the commit, or None when there was nothing.

    An automatic commit leaves out what plugins withhold, which is then in `ctx.withheld`.

    Raises:
        CommitRejected, HookError: a plugin refused, or failed.
    """
    withheld: Sequence[Withheld] = ()
    if message is None or await ctx.dispatcher.implemented(BEFORE):
        changes = await ctx.workspace.changes()
        if not changes and changes.in_progress is None:
            return None
        if not (auto and changes.in_progress):  # then the commit is refused, whatever anybody thinks of it
            changes, withheld = await _vet(ctx, changes, auto=auto)
            if not changes and changes.in_progress is None:
                return None
        if message is None:
            answer = await ctx.dispatcher.decide("gitmachine_commit_message", str, changes=changes, reason=reason)
            message = answer or DEFAULT_MESSAGES[reason]
    outcome = await ctx.workspace.commit(message, auto=auto, withhold=[file.path for file in withheld])
    if outcome is None:
        return None
    operation.emit(ctx.event(GitCommitted, sha=outcome.sha, message=outcome.message))
    await ctx.journal.update_machine(ctx.key, head=outcome.sha)
    return outcome.sha


async def auto_commit(ctx: Context, operation: Operation, *, reason: str) -> None:
    """Commit everything, unless a merge or the like is in progress: that is kept on the host as it is, and listed."""
    ctx.withheld = ()
    try:
        await commit(ctx, operation, None, reason=reason, auto=True)
    except CommitError as error:
        if error.in_progress is not None:
            return
        if not await unlock(ctx.machine, ctx.path):
            raise
        # A git process that was killed had left its lock.
        await commit(ctx, operation, None, reason=reason, auto=True)


async def note_withheld(ctx: Context, operation: Operation, survey: Survey) -> None:
    """Keep what the last automatic commit left out, once the survey's work is on this host, and tell what is new."""
    if not ctx.withheld:
        return
    content = survey.refs.get(CHANGES_REF)
    if content is None:
        ctx.withheld = ()  # they are gone from the machine since
        return
    ctx.withheld, fresh = await keep_withheld(ctx.transport.store, content, ctx.withheld)
    if fresh:
        operation.emit(ctx.event(GitWithheld, files=fresh))


async def _vet(ctx: Context, changes: Changes, *, auto: bool) -> tuple[Changes, Sequence[Withheld]]:
    """Put changes to the plugins; returns what is left of them and what is withheld.

    Raises:
        CommitRejected, HookError: a plugin refused, or failed.
    """
    withheld = await _select(ctx, changes) if auto else ()
    left = _without(changes, withheld)
    if (left or left.in_progress) and await ctx.dispatcher.implemented(BEFORE):
        await ctx.dispatcher.step(BEFORE, gm=ctx.gm, changes=left)
        now = await ctx.workspace.changes()
        if now != changes:  # a formatter, say
            withheld = await _select(ctx, now) if auto else ()
            left = _without(now, withheld)
    if auto:
        ctx.withheld = tuple(withheld)
    return left, withheld


async def _select(ctx: Context, changes: Changes) -> Sequence[Withheld]:
    found: dict[str, Withheld] = {}
    paths = {change.path for change in changes.files}
    for answer in await ctx.dispatcher.collect(SELECT, gm=ctx.gm, changes=changes):
        for one in _asked(ctx, answer):
            if one.path not in paths:
                ctx.dispatcher.blame(answer.plugin, SELECT, ValueError(f"{one.path!r} is none of the changes"))
                continue
            reason = ctx.redactor.redact(one.reason)
            found.setdefault(one.path, Withheld(path=one.path, reason=reason, plugin=answer.plugin))
    return tuple(found.values())


def _asked(ctx: Context, answer: Answer) -> Iterator[Withhold]:
    if isinstance(answer.value, Withhold):
        yield answer.value
        return
    listed: Iterable[object] = (
        answer.value if isinstance(answer.value, list | tuple | set | frozenset) else [answer.value]
    )
    for one in listed:
        if isinstance(one, Withhold):
            yield one
        else:
            ctx.dispatcher.blame(answer.plugin, SELECT, TypeError(f"expected Withhold(path, reason), not {one!r}"))


def _without(changes: Changes, withheld: Sequence[Withheld]) -> Changes:
    out = {file.path for file in withheld}
    return attrs.evolve(changes, files=tuple(change for change in changes.files if change.path not in out))
