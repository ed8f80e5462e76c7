"""Git inside the machine: the session's repository as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CheckoutError, CommandTimeoutError, CommitError, ConfigError, GitError
from gitmachine.execution import ExecRequest
from gitmachine.git import parsing, scripts, shell
from gitmachine.git.failures import MAX_STDERR_CHARACTERS, git_error, listing
from gitmachine.git.model import CommitOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gitmachine.execution import ExecResult
    from gitmachine.git.model import Changes, Commit, GitIdentity

__all__ = ["DEFAULT_MAX_DIFF_BYTES", "Workspace"]

DEFAULT_MAX_DIFF_BYTES = 256 * 1024 * 1024
"""The largest difference `diff` returns unless told otherwise."""

MAX_ANSWER_BYTES = 512 * 1024 * 1024
"""Lists of paths and refs are never cut off silently; a larger one is an error."""

HOOK_TIMEOUT_SECONDS = 3600.0
"""How long an explicit commit may take: a repository's hooks may run its whole test suite."""


def _unchanged(text: str) -> str:
    return text


def _message(text: str, *, auto: bool) -> str:
    """Return a message that git takes as it is, ending in a newline."""
    if auto:
        text = text.replace("\0", "") if text.strip(" \t\r\n\0") else "checkpoint"
    elif not text.strip():
        raise ConfigError("the commit message is blank: say what changed")
    elif "\0" in text:
        raise ConfigError(f"the commit message holds a NUL character: {text[:80]!r}")
    return text if text.endswith("\n") else text + "\n"


class Workspace:
    """The main repository of a machine, driven through `execute` alone.

    Every method is one script in one round trip. A fault of the machine (`MachineError`) passes through; whatever git
    refuses is a `GitError`.

    Attributes:
        path: the absolute path of the repository in the machine.
        identity: who the session's commits are by.
    """

    def __init__(
        self,
        execute: Callable[[ExecRequest], Awaitable[ExecResult]],
        path: str,
        identity: GitIdentity,
        *,
        redact: Callable[[str], str] = _unchanged,
        timeout_seconds: float = 600.0,
        lock_wait_seconds: float = 10.0,
    ) -> None:
        """Drive the repository at `path`; `redact` is applied to everything that goes into an error."""
        self.path = path
        self.identity = identity
        self._execute = execute
        self._redact = redact
        self._timeout = timeout_seconds
        self._lock_wait = lock_wait_seconds

    async def checkout(self, branch: str, start: str | None, upstream: bool) -> None:
        """Put the files of `start` in place on a new local branch, or leave the branch unborn when it is None.

        Args:
            branch: its name; the caller has checked it.
            start: the commit, already in the repository.
            upstream: whether the remote has the branch, so that it is tracked.

        Raises:
            CheckoutError: git refused, or the files differ from the commit at once (line endings that
                .gitattributes wants changed, names that clash without case, a filter): nothing of that would be
                the command's work.
        """
        args = (branch, start or "", "yes" if upstream else "no", self.identity.name, self.identity.email)
        fields = await self._fields("checkout", scripts.CHECKOUT, *args, failed=CheckoutError)
        border = fields.index(b"@eol")
        status = parsing.parse_status(fields[1:border])
        dirty = {change.path for change in status.changes.files} | set(status.changes.nested)
        endings = set(parsing.parse_line_endings(fields[border + 1 :]))
        if dirty or endings:
            hint = "their line endings are not what .gitattributes says; " if endings or dirty == endings else ""
            raise CheckoutError(
                f"the checkout of {branch!r} differs from its commit in {listing(dirty | endings)}: {hint}"
                "nothing was run. Commit them clean first (git add --renormalize . for line endings)",
                argv=("git", "status"),
            )

    async def head(self) -> str | None:
        """Return HEAD's commit, or None in an empty repository."""
        (sha,) = await self._fields("rev-parse", scripts.HEAD)
        return parsing.decode(sha) or None

    async def changes(self) -> Changes:
        """Return everything that differs from HEAD, untracked files included; writes nothing."""
        operation, *entries = await self._fields("status", scripts.CHANGES)
        status = parsing.parse_status(entries, operation=parsing.decode(operation) or None)
        if status.exact:
            return status.changes
        names = await self._fields("diff", scripts.DIFF, "names")
        return attrs.evolve(status.changes, files=parsing.parse_names(names))

    async def diff(self) -> str:
        """Return `diff_bytes` as text, bytes that are not UTF-8 as surrogate escapes."""
        return parsing.decode(await self.diff_bytes())

    async def diff_bytes(self, *, max_bytes: int = DEFAULT_MAX_DIFF_BYTES) -> bytes:
        """Return everything that differs from HEAD as a patch that `git apply` accepts.

        Untracked and binary files and modes are in it. Index, HEAD and object store stay untouched.

        Raises:
            GitError: also when the patch is larger than max_bytes.
        """
        result = await self._run("diff", scripts.DIFF, "patch", max_output_bytes=max_bytes)
        if result.truncated:
            raise GitError(
                f"the diff is larger than {max_bytes} bytes: ask for changes(), or for a higher max_bytes",
                argv=("git", "diff"),
            )
        return result.stdout_bytes

    async def commit(
        self, message: str, *, auto: bool = False, hook_timeout_seconds: float = HOOK_TIMEOUT_SECONDS
    ) -> CommitOutcome | None:
        """Stage everything and commit it as the session's identity; None when there is nothing to commit.

        An explicit commit runs the repository's hooks, and concludes a merge, cherry-pick or revert whose conflicts
        are resolved and staged. An automatic one skips hooks, leaves out what cannot be read, and never concludes
        anything. Nested repositories are not added; on a detached HEAD the commit is made there.

        Raises:
            CommitRejected: a hook refused; its output is in `stderr`, everything is staged.
            CommitError: an operation in progress or unmerged paths (`in_progress`), an index that stays locked, a
                full disk, a read-only repository.
            ConfigError: the message is blank or holds a NUL character.
        """
        text = _message(message, auto=auto)
        outcome = await self._fields(
            "commit",
            scripts.COMMIT,
            "auto" if auto else "explicit",
            str(round(self._lock_wait * 10)),
            failed=CommitError,
            stdin=parsing.encode(text),
            timeout_seconds=self._timeout if auto else max(hook_timeout_seconds, self._timeout),
        )
        report = parsing.parse_commit(outcome)
        if report.sha is None:
            return None
        return CommitOutcome(sha=report.sha, message=message, changes=report.changes, unreadable=report.left)

    async def divergence(self, upstream_ref: str) -> tuple[int, int]:
        """Return how many commits HEAD is ahead of and behind a revision."""
        _other, counts = (await self._run("rev-list", scripts.DIVERGENCE, upstream_ref)).stdout_bytes.split(b"\0")
        ahead, behind = counts.split()
        return int(ahead), int(behind)

    async def log(self, limit: int = 50, *, since: str | None = None) -> tuple[Commit, ...]:
        """Return HEAD's history, newest first, without what `since` already reaches."""
        return parsing.parse_log(await self._fields("log", scripts.LOG, str(limit), since or ""))

    async def _fields(
        self,
        command: str,
        script: str,
        *args: str,
        failed: type[GitError] = GitError,
        stdin: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> list[bytes]:
        result = await self._run(command, script, *args, failed=failed, stdin=stdin, timeout_seconds=timeout_seconds)
        if result.truncated:
            raise failed(f"the answer of git {command} is larger than {MAX_ANSWER_BYTES} bytes", argv=("git", command))
        return parsing.parse_fields(result.stdout_bytes)

    async def _run(
        self,
        command: str,
        script: str,
        *args: str,
        failed: type[GitError] = GitError,
        stdin: bytes | None = None,
        timeout_seconds: float | None = None,
        max_output_bytes: int = MAX_ANSWER_BYTES,
    ) -> ExecResult:
        request = ExecRequest(
            argv=shell.arguments(script, *args),
            cwd=self.path,
            env=self._environment(),
            stdin=stdin,
            timeout=timeout_seconds or self._timeout,
            max_output_bytes=max_output_bytes,
        )
        try:
            result = await self._execute(request)
        except CommandTimeoutError as error:
            raise failed(
                f"git {command} took longer than {request.timeout:g} s in {self.path} and was stopped",
                argv=("git", command),
                stderr=self._redact(error.result.stderr)[-MAX_STDERR_CHARACTERS:],
            ) from error
        if result.exit_code:
            raise git_error(command, result, path=self.path, failed=failed, redact=self._redact)
        return result

    def _environment(self) -> Mapping[str, str]:
        return shell.environment(self.identity)
