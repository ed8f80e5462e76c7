"""The git verbs of `AsyncGitMachine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.steps import checkpoints, verbs

if TYPE_CHECKING:
    from gitmachine.git.model import Changes, Commit, PullPolicy
    from gitmachine.outcomes import Checkpoint, PushResult
    from gitmachine.steps.context import Context

__all__ = ["AsyncGitVerbs"]


class AsyncGitVerbs:
    """The git half of `AsyncGitMachine`."""

    _ctx: Context

    async def diff(self) -> str:
        """Return every change against HEAD, untracked files included, as text that ``git apply`` takes.

        The index, HEAD and the working tree stay as they are. Works while paused, as all git verbs do.
        """
        return await verbs.diff(self._ctx)

    async def changes(self) -> Changes:
        """Return the changed paths against HEAD, untracked ones included."""
        return await verbs.changes(self._ctx)

    async def commit(self, message: str | None = None) -> str | None:
        """Stage everything and commit it as the session's identity; the repository's own hooks run.

        Without a message the plugins are asked, else it is ``checkpoint``. Returns the commit's sha, or None when
        there was nothing to commit.

        Raises:
            CommitRejected, CommitError: a hook of the repository refused (see `stderr`), or git could not commit.
        """
        return await verbs.commit(self._ctx, message)

    async def push(self) -> PushResult:
        """Publish the session branch's commits, then ask the remote whether it has them.

        Raises:
            PushRejectedError: the remote's branch has other commits, or a rule of its own forbids it.
            PushAuthenticationError, PushUnreachableError: it did not accept the credential, or did not answer.
        """
        return await verbs.push(self._ctx)

    async def pull(self, policy: PullPolicy | None = None) -> str | None:
        """Bring in what the remote's session branch has, by a policy, the session's ``git.pull`` by default.

        Returns the new HEAD.

        Raises:
            PullDivergedError: both sides have commits, and the policy is ``ff``.
            PullConflictError: with the files; the working tree is as it was.
            ConfigError: there is no such policy.
        """
        return await verbs.pull(self._ctx, policy)

    async def hash(self) -> str | None:
        """Return HEAD's sha, or None in an empty repository."""
        return await verbs.head(self._ctx)

    async def log(self, limit: int = 20) -> tuple[Commit, ...]:
        """Return the newest commits of HEAD, newest first."""
        return await verbs.log(self._ctx, limit)

    async def checkpoint(self, message: str | None = None) -> Checkpoint:
        """Take a snapshot of the whole working tree on a private ref, copied to this host; nothing else changes.

        Untracked files above 100 MiB are left out, and named in the event.
        """
        return await checkpoints.checkpoint(self._ctx, message)

    async def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Return the session's checkpoints, the oldest first."""
        return await checkpoints.checkpoints(self._ctx)

    async def rollback(self, number: int) -> Checkpoint:
        """Bring files and branch back to a checkpoint; what is there now becomes a checkpoint before.

        Ignored files and nested repositories stay as they are. Returns the checkpoint.

        Raises:
            GitError: there is no such checkpoint.
        """
        return await checkpoints.rollback(self._ctx, number)
