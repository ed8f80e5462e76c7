"""Git inside the machine: the session's repository as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CheckoutError, CommandTimeoutError, CommitError, ConfigError, GitError
from gitmachine.execution import ExecRequest
from gitmachine.git import gathering, integration, parsing, scripts, shell
from gitmachine.git.failures import MAX_STDERR_CHARACTERS, git_error, listing
from gitmachine.git.ignored import glob_problem, pathspecs
from gitmachine.git.model import CommitOutcome, FoundRepository, Snapshot, Survey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from gitmachine.execution import ExecResult
    from gitmachine.git.model import Changes, Commit, GitIdentity, PullPolicy

__all__ = ["DEFAULT_MAX_DIFF_BYTES", "DEFAULT_MAX_UNTRACKED_BYTES", "Workspace"]

DEFAULT_MAX_DIFF_BYTES = 256 * 1024 * 1024
"""The largest difference `diff` returns unless told otherwise."""

DEFAULT_MAX_UNTRACKED_BYTES = 100 * 1024 * 1024
"""Untracked files above this are taken for not being in any snapshot, unless told otherwise."""

MAX_ANSWER_BYTES = 512 * 1024 * 1024
"""Lists of paths and refs are never cut off silently; a larger one is an error."""

DIFF_ATTEMPTS = 6
"""How often files may vanish under a comparison before that is an error."""

VANISHED = "No such file or directory"
"""What git says then: ``fatal: stat 'name': No such file or directory``."""

SNAPSHOTS = "refs/gitmachine/snapshot/"

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


def _found(seen: Iterable[parsing.SeenRepository]) -> tuple[FoundRepository, ...]:
    return tuple(FoundRepository(path=one.path, kind=one.kind) for one in seen)


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
        self._patience = str(round(lock_wait_seconds * 10))

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

    async def rename_branch(self, old: str, new: str) -> None:
        """Call a branch otherwise; whatever is staged, changed or going on stays as it is. Raises CheckoutError."""
        await self._fields("rename", scripts.RENAME, old, new, failed=CheckoutError)

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
        names = await self._diff("names", MAX_ANSWER_BYTES)
        if names.truncated:
            raise GitError(f"the list of changes is larger than {MAX_ANSWER_BYTES} bytes", argv=("git", "diff"))
        return attrs.evolve(status.changes, files=parsing.parse_names(parsing.parse_fields(names.stdout_bytes)))

    async def diff(self) -> str:
        """Return `diff_bytes` as text, bytes that are not UTF-8 as surrogate escapes."""
        return parsing.decode(await self.diff_bytes())

    async def diff_bytes(self, *, max_bytes: int = DEFAULT_MAX_DIFF_BYTES) -> bytes:
        """Return everything that differs from HEAD as a patch that `git apply` accepts.

        Untracked and binary files and modes are in it. Index, HEAD and object store stay untouched.

        Raises:
            GitError: also when the patch is larger than max_bytes.
        """
        result = await self._diff("patch", max_bytes)
        if result.truncated:
            raise GitError(
                f"the diff is larger than {max_bytes} bytes: ask for changes(), or for a higher max_bytes",
                argv=("git", "diff"),
            )
        return result.stdout_bytes

    async def commit(
        self,
        message: str,
        *,
        auto: bool = False,
        withhold: Sequence[str] = (),
        hook_timeout_seconds: float = HOOK_TIMEOUT_SECONDS,
    ) -> CommitOutcome | None:
        """Stage everything and commit it as the session's identity; None when there is nothing to commit.

        An explicit commit runs the repository's hooks, and concludes a merge, cherry-pick or revert whose conflicts
        are resolved and staged. An automatic one skips hooks, leaves out what git cannot add, and never concludes
        anything. Nested repositories are not added; on a detached HEAD the commit is made there. The paths of
        `withhold` are left as HEAD has them, also where they were staged.

        Raises:
            CommitRejected: a hook refused; its output is in `stderr`, everything is staged.
            CommitError: an operation in progress or unmerged paths (`in_progress`), an index that stays locked, a
                full disk, a read-only repository.
            ConfigError: the message is blank or holds a NUL character.
        """
        text = parsing.encode(_message(message, auto=auto))
        outcome = await self._fields(
            "commit",
            scripts.COMMIT,
            "auto" if auto else "explicit",
            self._patience,
            str(len(text)) if withhold else "",
            failed=CommitError,
            stdin=text + parsing.encode("".join(f"{path}\0" for path in withhold)),
            timeout_seconds=self._timeout if auto else max(hook_timeout_seconds, self._timeout),
        )
        report = parsing.parse_commit(outcome)
        if report.sha is None:
            return None
        return CommitOutcome(
            sha=report.sha,
            message=message,
            changes=report.changes,
            unreadable=tuple(path for path in report.unreadable if path not in withhold),
            withheld=tuple(withhold),
        )

    async def survey(self, *, keep_ignored: Sequence[str] = ()) -> Survey:
        """Return all work in the machine: every ref, stash, worktree, nested repository, and uncommitted content.

        What no ref names gets one under ``refs/gitmachine/keep/`` in its repository, so that it can be fetched; those
        of an earlier survey are replaced. Two surveys of the same work are equal. Index and branches stay untouched.

        Args:
            keep_ignored: globs of ignored files that are work too (`gitmachine.git.ignored`): those of the main
                repository get `IGNORED_REF`, whatever their size. What cannot be read is in `unreadable`.

        Raises:
            ConfigError: a glob means nothing.
        """
        problems = [problem for glob in keep_ignored if (problem := glob_problem(glob)) is not None]
        if problems:
            raise ConfigError(*problems)
        seen = await self._gather("survey", "uncommitted changes\n", "", *pathspecs(keep_ignored))
        main, *others = seen.repositories
        return Survey(
            head=main.head,
            branch=main.branch,
            tree=main.tree,
            refs=main.refs,
            repositories=_found(seen.repositories),
            nested_refs={other.path: other.refs for other in others},
            ignored=seen.ignored,
            in_progress=main.operation,
            broken=seen.broken,
            unreadable=seen.skipped,
        )

    async def snapshot(self, message: str, *, max_untracked_bytes: int | None = None) -> Snapshot:
        """Commit everything on a ref beside the user's branches; index, HEAD and hooks stay untouched.

        Also done during a merge or rebase. Linked worktrees, nested repositories and submodules with uncommitted
        content get a snapshot of their own.

        Args:
            message: the commit's message.
            max_untracked_bytes: larger untracked files are left out and listed in `skipped`, as is what git cannot
                add.
        """
        cap = "" if max_untracked_bytes is None else str(max_untracked_bytes)
        seen = await self._gather("snapshot", _message(message, auto=True), cap)
        main, *others = seen.repositories
        ref, sha = next((ref, sha) for ref, sha in main.refs.items() if ref.startswith(SNAPSHOTS))
        return Snapshot(
            sha=sha,
            head=main.head,
            tree=main.tree,
            ref=ref,
            number=int(ref.removeprefix(SNAPSHOTS)),
            refs=main.refs,
            nested_refs={other.path: other.refs for other in others},
            repositories=_found(seen.repositories),
            dirty=main.dirty,
            skipped=seen.skipped,
            in_progress=main.operation,
        )

    async def _gather(self, mode: str, message: str, cap: str, *ignored: str) -> parsing.Gathering:
        script, library = gathering.GATHER, gathering.GATHER_LIBRARY
        result = await self._run(mode, script, mode, cap, *ignored, stdin=parsing.encode(message), library=library)
        if result.truncated:
            raise GitError(f"the {mode} is larger than {MAX_ANSWER_BYTES} bytes", argv=("git", mode))
        return parsing.parse_gathering(parsing.parse_fields(result.stdout_bytes))

    async def restore(
        self,
        snapshot: str,
        *,
        branch: str | None = None,
        max_untracked_bytes: int | None = DEFAULT_MAX_UNTRACKED_BYTES,
    ) -> None:
        """Go back to a snapshot: its files, and its first parent as HEAD (an unborn branch when it has none).

        Ends a merge or rebase in progress. Untracked files that the snapshot lacks are removed, so the caller saves
        the present state first; ignored files and nested repositories stay.

        Args:
            snapshot: the snapshot's commit, in the machine's repository.
            branch: the branch that HEAD shall be on afterwards; None is the one it is on.
            max_untracked_bytes: the cap the snapshots are made with; larger untracked files stay.

        Raises:
            GitError: the snapshot is unknown, or has another file in the place of an untracked one above the cap.
        """
        cap = "" if max_untracked_bytes is None else str(max_untracked_bytes)
        script, library = integration.RESTORE, gathering.GATHER_LIBRARY
        await self._run("reset", script, snapshot, branch or "", cap, self._patience, library=library)

    async def integrate(self, upstream_ref: str, policy: PullPolicy = "ff") -> tuple[str | None, str]:
        """Bring HEAD's branch up to a revision and return HEAD before and after.

        Merge and rebase happen aside; files, index and branch move in one step at the end, and only when nothing is
        in the way. Uncommitted changes elsewhere stay as they are. Hooks are off.

        Raises:
            PullDivergedError: both sides have commits and the policy is ``ff``.
            PullConflictError: commits conflict, or uncommitted changes would be overwritten; all is as it was.
            GitError: also when a merge or rebase is in progress.
        """
        old, new = await self._fields("pull", integration.INTEGRATE, upstream_ref, policy, self._patience)
        return parsing.decode(old) or None, parsing.decode(new)

    async def divergence(self, upstream_ref: str) -> tuple[int, int]:
        """Return how many commits HEAD is ahead of and behind a revision."""
        _other, counts = (await self._run("rev-list", scripts.DIVERGENCE, upstream_ref)).stdout_bytes.split(b"\0")
        ahead, behind = counts.split()
        return int(ahead), int(behind)

    async def log(self, limit: int = 50, *, since: str | None = None) -> tuple[Commit, ...]:
        """Return HEAD's history, newest first, without what `since` already reaches."""
        return parsing.parse_log(await self._fields("log", scripts.LOG, str(limit), since or ""))

    async def _diff(self, form: str, max_output_bytes: int) -> ExecResult:
        """Compare with HEAD, again when a file that git had listed was gone before git read it."""
        for _ in range(DIFF_ATTEMPTS - 1):
            try:
                return await self._run("diff", scripts.DIFF, form, max_output_bytes=max_output_bytes)
            except GitError as error:
                if VANISHED not in error.stderr:
                    raise
        return await self._run("diff", scripts.DIFF, form, max_output_bytes=max_output_bytes)

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
        library: str = shell.LIBRARY,
    ) -> ExecResult:
        request = ExecRequest(
            argv=shell.arguments(script, *args, library=library),
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
