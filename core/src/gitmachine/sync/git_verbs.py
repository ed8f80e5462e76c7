"""The git verbs of `GitMachine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine._portal import Lease
    from gitmachine.git.model import Changes, Commit, PullPolicy
    from gitmachine.outcomes import Checkpoint, PushResult
    from gitmachine.session import AsyncGitMachine

__all__ = ["GitVerbs"]

LifecycleCallback = Callable[["GitVerbs"], object]


class GitVerbs:
    """The git half of `GitMachine`."""

    _lease: Lease
    _inner: AsyncGitMachine

    def diff(self) -> str:
        """Return every change against HEAD, untracked files included, as text that ``git apply`` takes.

        The index, HEAD and the working tree stay as they are. Works while paused, as all git verbs do.
        """
        return self._lease.call(self._inner.diff)

    def changes(self) -> Changes:
        """Return the changed paths against HEAD, untracked ones included."""
        return self._lease.call(self._inner.changes)

    def commit(self, message: str | None = None) -> str | None:
        """Stage everything and commit it as the session's identity; the repository's own hooks run.

        Without a message the plugins are asked, else it is ``checkpoint``. Returns the commit's sha, or None when
        there was nothing to commit.

        Raises:
            CommitRejected, CommitError: a hook of the repository refused (see `stderr`), or git could not commit.
        """
        return self._lease.call(self._inner.commit, message)

    def push(self) -> PushResult:
        """Publish the session branch's commits, then ask the remote whether it has them.

        Raises:
            PushRejectedError: the remote's branch has other commits, or a rule of its own forbids it.
            PushAuthenticationError, PushUnreachableError: it did not accept the credential, or did not answer.
        """
        return self._lease.call(self._inner.push)

    def pull(self, policy: PullPolicy | None = None) -> str | None:
        """Bring in what the remote's session branch has, by a policy, the session's ``git.pull`` by default.

        Returns the new HEAD.

        Raises:
            PullDivergedError: both sides have commits, and the policy is ``ff``.
            PullConflictError: with the files; the working tree is as it was.
            ConfigError: there is no such policy.
        """
        return self._lease.call(self._inner.pull, policy)

    def hash(self) -> str | None:
        """Return HEAD's sha, or None in an empty repository."""
        return self._lease.call(self._inner.hash)

    def log(self, limit: int = 20) -> tuple[Commit, ...]:
        """Return the newest commits of HEAD, newest first."""
        return self._lease.call(self._inner.log, limit)

    def checkpoint(self, message: str | None = None) -> Checkpoint:
        """Take a snapshot of the whole working tree on a private ref, copied to this host; nothing else changes.

        Untracked files above 100 MiB are left out, and named in the event.
        """
        return self._lease.call(self._inner.checkpoint, message)

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Return the session's checkpoints, the oldest first."""
        return self._lease.call(self._inner.checkpoints)

    def rollback(self, number: int) -> Checkpoint:
        """Bring files and branch back to a checkpoint; what is there now becomes a checkpoint before.

        Ignored files and nested repositories stay as they are. Returns the checkpoint.

        Raises:
            GitError: there is no such checkpoint.
        """
        return self._lease.call(self._inner.rollback, number)
