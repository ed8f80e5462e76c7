"""What becomes of an operation whose process was killed: a later process finishes or undoes it, and says so.

Every operation that changes a machine is written to the journal before its effect, with its process, and holds the
machine's lock, which the kernel releases when the process dies. So an open intent of a dead process is half done for
certain, and whoever gets the lock may deal with it. Nothing here destroys work: a machine is removed only when a
comparison with this host has shown that it holds none that is not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import GitError, GitMachineError, MachineError, StateError
from gitmachine.machine import MachineState
from gitmachine.state.locks import MachineLock
from gitmachine.state.owner import is_alive
from gitmachine.steps.committing import CHANGES_REF
from gitmachine.steps.publishing import ask_remote, kept_work, rescue, session_sha
from gitmachine.steps.remains import is_abandoned
from gitmachine.steps.unlocking import unlock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.git.model import Survey
    from gitmachine.outcomes import Rescue
    from gitmachine.state.journal import Journal
    from gitmachine.state.records import Intent, MachineRecord
    from gitmachine.steps.context import Context
    from gitmachine.steps.remains import Remains

__all__ = ["Recovery", "bury", "half_done", "recover"]

WAIT_SECONDS = 1.0
"""How long a recovery waits for the machine's lock; whoever holds it longer is alive and at work."""

SWEEP_SECONDS = 10.0
"""How long a half-made machine may take to end by itself, now that its maker is gone."""

POLL_SECONDS = 0.05


@attrs.frozen(kw_only=True)
class Recovery:
    """What was found half done on one machine and what was done about it; false when there was nothing.

    Attributes:
        key: the session's key.
        label: what the machine is called: its name, else its key.
        name: the name given to it, or None.
        provider: its provider.
        machine_id: its id, or None.
        session: the session branch.
        state: the journal's state of it, now.
        sentences: what was found, and what was done.
        rescue: where work is safe that the remote lacks, or None.
        problem: why nothing could be done now, or None.
    """

    key: str
    label: str
    name: str | None
    provider: str
    machine_id: str | None
    session: str
    state: str
    sentences: tuple[str, ...] = ()
    rescue: Rescue | None = None
    problem: str | None = None

    def __bool__(self) -> bool:
        return bool(self.sentences) or self.problem is not None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return attrs.asdict(self, value_serializer=_plain)


def _plain(_owner: object, _field: object, value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


@attrs.define
class _Story:
    """What is told of one recovery while it goes on."""

    remains: Remains
    sentences: list[str] = attrs.field(factory=list)
    rescue: Rescue | None = None
    problem: str | None = None

    def tell(self, sentence: str) -> None:
        self.sentences.append(f"machine {self.remains.record.label}: {sentence}")

    async def end(self) -> Recovery:
        record = await self.remains.journal.machine(self.remains.record.key)
        return Recovery(
            key=record.key,
            label=record.label,
            name=record.name,
            provider=record.provider,
            machine_id=record.machine_id,
            session=record.session,
            state=record.state,
            sentences=tuple(self.sentences),
            rescue=self.rescue,
            problem=self.problem,
        )


async def half_done(journal: Journal, record: MachineRecord) -> list[Intent] | None:
    """Return the intents of dead processes; None when nothing of the machine is half done."""
    if record.ended:
        return None
    intents = await journal.open_intents(record.key)
    dead = [intent for intent in intents if is_abandoned(intent)]
    if dead:
        return dead
    cut_off = record.state in {"starting", "stopping"} and not is_alive(record.owner_pid, record.owner_start)
    return [] if cut_off and not intents else None


async def recover(remains: Remains, *, wait_seconds: float = WAIT_SECONDS) -> Recovery:
    """Finish or undo what a dead process left half done on a machine; nothing when a living one works on it.

    Raises:
        StateError: the journal cannot be used.
    """
    story = _Story(remains)
    journal, key = remains.journal, remains.record.key
    if await half_done(journal, remains.record) is None:
        return await story.end()
    async with contextlib.AsyncExitStack() as stack:
        lock = MachineLock(remains.places.machine_lock(key))
        try:
            await stack.enter_async_context(lock.exclusive(wait_seconds, what="recover"))
        except StateError as error:
            if error.holder is None:
                raise
            return await story.end()
        story.remains = remains = attrs.evolve(remains, record=await journal.machine(key))
        intents = await half_done(journal, remains.record)
        if intents is not None:
            try:
                await _recover(story, intents)
            except GitMachineError as error:
                story.problem = f"machine {remains.record.label}: {error}"
    return await story.end()


async def bury(remains: Remains, *, wait_seconds: float = WAIT_SECONDS) -> Recovery:
    """Write a machine off that is gone; what this host has of its work is rescued when the remote lacks it.

    Raises:
        StateError: another process works on it.
    """
    story = _Story(remains)
    async with MachineLock(remains.places.machine_lock(remains.record.key)).exclusive(wait_seconds, what="recover"):
        story.remains = attrs.evolve(remains, record=await remains.journal.machine(remains.record.key))
        if not story.remains.record.ended and await story.remains.connect() is None:
            await _bury(story)
    return await story.end()


async def _recover(story: _Story, intents: list[Intent]) -> None:
    remains = story.remains
    record = remains.record
    by_operation = {intent.operation: intent for intent in intents}
    machine = await remains.connect()
    if machine is None:
        await _without_machine(story, by_operation)
        return
    if record.machine_id is None:
        await remains.journal.update_machine(record.key, machine_id=machine.id)
    async with remains.opened(machine) as ctx:
        if "destroy" in by_operation:
            settled = await _finish_stop(story, ctx, by_operation["destroy"])
        elif "start" in by_operation or record.state == "starting":
            settled = await _undo_start(story, ctx)
        else:
            settled = False
            await _settle(story, ctx, by_operation)
        if not settled:
            await remains.journal.update_machine(record.key, state=str(ctx.machine.state))
            for intent in intents:
                await remains.journal.done(intent.id, {"recovered": story.sentences[-1] if story.sentences else ""})


async def _without_machine(story: _Story, operations: Mapping[str, Intent]) -> None:
    """The machine is not there: it was never made, it was removed to the end, or it died."""
    remains = story.remains
    if "destroy" in operations:
        story.tell(f"its stop was interrupted while it was being removed; it is gone, {_where(operations['destroy'])}")
        await _end(remains, "stopped")
    elif remains.record.state == "starting":
        await _sweep(remains)
        story.tell("its start was interrupted; nothing of it is left")
        await _end(remains, "failed")
    else:
        await _bury(story)


async def _sweep(remains: Remains) -> None:
    """Have the provider remove what is left of a half-made machine; it may be about to end by itself.

    Raises:
        MachineError: it does not end.
    """
    deadline = time.monotonic() + SWEEP_SECONDS
    while (found := await remains.look()) is not None:
        if time.monotonic() > deadline:
            raise MachineError(
                f"the half-made machine {found} neither answers nor ends",
                machine_id=found,
                provider=remains.record.provider,
                operation="find",
            )
        await asyncio.sleep(POLL_SECONDS)


async def _end(remains: Remains, state: str) -> None:
    from gitmachine.state.memory import forget

    await remains.journal.end_machine(remains.record.key, state)
    await forget(remains.places, remains.record.key)


async def _bury(story: _Story) -> None:
    remains = story.remains
    age = (datetime.now(UTC) - remains.record.updated).total_seconds()
    async with remains.opened(None) as ctx:
        if ctx.transport.store.path.is_dir():
            await ask_remote(ctx)
            kept = await kept_work(ctx)
            if kept:
                story.rescue = await rescue(ctx, None, reason="the machine was lost", machine_kept=False)
    if story.rescue is None:
        story.tell("it is gone; this host has nothing of its work that the remote lacks")
    else:
        place = story.rescue.bundle or story.rescue.repository
        story.tell(f"it is gone; what this host has of its work, {age:.0f} s old, is safe in {place}")
    await _end(remains, "lost")


async def _finish_stop(story: _Story, ctx: Context, intent: Intent) -> bool:
    """Remove the machine, as was decided, when it still holds nothing that is not on this host."""
    if ctx.machine.state is MachineState.PAUSED:
        await ctx.machine.resume()
    try:
        survey = await ctx.survey()
    except GitError as error:
        if not _receipt(intent).get("rescue"):
            story.tell(
                f"its stop was interrupted before it was removed, and its repository cannot be read: "
                f"kept as running ({error})"
            )
            return False
    else:
        if not await _on_host(ctx, survey):
            story.tell("its stop was interrupted before it was removed, and it has new work since: kept as running")
            return False
    await ctx.machine.stop()
    await _end(story.remains, "stopped")
    story.tell(f"its stop was interrupted before it was removed; removed now, {_where(intent)}")
    return True


def _receipt(intent: Intent) -> Mapping[str, Any]:
    receipt = intent.detail.get("receipt")
    return receipt if isinstance(receipt, dict) else {}


def _where(intent: Intent) -> str:
    receipt = _receipt(intent)
    saved = receipt.get("rescue")
    if isinstance(saved, dict):
        return f"its work is safe in {saved.get('bundle') or saved.get('repository')}"
    published = receipt.get("published") or ()
    return f"its work is published on {', '.join(map(str, published))}" if published else "it had no work to publish"


async def _on_host(ctx: Context, survey: Survey) -> bool:
    """Tell whether this host has everything that a survey of the machine found."""
    store = ctx.transport.store
    there = set(survey.refs.values()).union(*(refs.values() for refs in survey.nested_refs.values()))
    if survey.broken or not store.path.is_dir():
        return False
    return await store.present(there) == there and await store.connected(there)


async def _undo_start(story: _Story, ctx: Context) -> bool:
    """Remove the machine, unless a callback has begun to work in it."""
    if story.remains.record.state != "starting":
        if ctx.machine.state is MachineState.PAUSED:
            await ctx.machine.resume()
        try:
            survey = await ctx.survey()
        except GitError as error:
            story.tell(f"its start was interrupted, and its repository cannot be read ({error}): kept as running")
            return False
        if session_sha(ctx, survey) != ctx.start_sha or CHANGES_REF in survey.refs or not await _unchanged(ctx, survey):
            story.tell("its start was interrupted after work had begun in it: kept as running")
            return False
    # Until the branch is checked out nobody but the start itself does anything in a machine.
    await ctx.machine.stop()
    await _sweep(story.remains)
    await _end(story.remains, "failed")
    story.tell("its start was interrupted; the half-made machine is removed, there was no work in it")
    return True


async def _unchanged(ctx: Context, survey: Survey) -> bool:
    """Tell whether the repository has no commit that came in otherwise than with the start."""
    known = {sha for sha in survey.refs.values() if sha != ctx.start_sha}
    return not survey.nested_refs and known <= await ctx.transport.store.present(known)


async def _settle(story: _Story, ctx: Context, operations: Mapping[str, Intent]) -> None:
    """Find out how far it came, and have the machine as the journal says it is."""
    push = operations.get("push")
    if push is not None and "sha" in push.detail:
        story.tell(await _pushed(ctx, str(push.detail["branch"]), str(push.detail["sha"])))
    if ctx.machine.state is MachineState.RUNNING:
        for file in await unlock(ctx.machine, ctx.path):
            story.tell(f"git was killed there and had left {file} locked: removed")
    if "wake" in operations:
        name = next((name for name in operations if name != "wake"), "git")
        if ctx.machine.state is MachineState.RUNNING and ctx.can_pause:
            await ctx.machine.pause()
        story.tell(f"it was awake for an interrupted {name}: it is {ctx.machine.state} again")
        return
    for name in operations:
        if name == "stop":
            story.tell(f"its stop was interrupted before it was removed: it is {ctx.machine.state}")
        elif name == "push" and push is not None and "sha" not in push.detail:
            story.tell("its push was interrupted before anything was sent: the machine has the work")
        elif name in {"pause", "resume"}:
            story.tell(f"its {name} was interrupted: it is {ctx.machine.state}")
        elif name != "push":
            story.tell(f"its {name} was interrupted: nothing is lost, what it did not finish can be done again")
    if not story.sentences:
        story.tell(f"its stop was interrupted: it is {ctx.machine.state}")


async def _pushed(ctx: Context, branch: str, sha: str) -> str:
    try:
        theirs = (await ctx.transport.remote.ask()).branch(branch)
    except GitError as error:
        return f"a push of {sha[:10]} to {branch!r} was interrupted, and the remote cannot be asked about it: {error}"
    if theirs == sha:
        return f"a push of {sha[:10]} to {branch!r} was interrupted after the remote had taken it"
    has = "no such branch" if theirs is None else f"{theirs[:10]} there"
    return f"a push of {sha[:10]} to {branch!r} was interrupted: the remote has {has}, the machine has the work"
