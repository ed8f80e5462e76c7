"""The core's guard: secrets and large files stay out of automatic commits, and are stopped at the push.

What it withholds is reported and kept on this host. A session's `guard` options say what it looks for; without the
guard at all: ``GITMACHINE_DISABLE_PLUGINS=guard``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import PushVetoed
from gitmachine.git.guarding import vet_changes, vet_outgoing
from gitmachine.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine.git.model import Changes
    from gitmachine.git.outgoing import OutgoingCommits
    from gitmachine.hookspecs import AnyGitMachine
    from gitmachine.outcomes import Withhold

__all__ = ["gitmachine_before_push", "gitmachine_select_changes"]

MAX_NAMED = 5
"""How many files a refusal names before it counts."""


@hookimpl
async def gitmachine_select_changes(gm: AnyGitMachine, changes: Changes) -> Sequence[Withhold]:
    """Withhold what looks like a secret or is too large."""
    return await vet_changes(gm.machine.execute, gm.path, changes, gm.guard)


@hookimpl
async def gitmachine_before_push(gm: AnyGitMachine, commits: OutgoingCommits) -> None:
    """Stop a push of commits that hold such files, whoever made them.

    Raises:
        PushVetoed: naming each file and its commit.
    """
    found = await vet_outgoing(commits, gm.guard)
    if not found:
        return
    named = []
    for finding in found[:MAX_NAMED]:
        commit = await commits.commit_with(finding.file) or commits.sha
        named.append(f"{finding.file.path!r} in commit {commit[:12]}: {finding.reason}")
    more = f"; and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    raise PushVetoed(
        f"the guard stops the push of {commits.branch!r}: {'; '.join(named)}{more}: "
        "take it out of the history, or let it through with guard.allow"
    )
