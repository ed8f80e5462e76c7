"""What a failed script in the machine means, as an error that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import CommitError, CommitRejected, GitError, PullConflictError, PullDivergedError
from gitmachine.git.parsing import Failure, overlap, parse_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gitmachine.execution import ExecResult

__all__ = ["MAX_STDERR_CHARACTERS", "git_error", "listing"]

MAX_STDERR_CHARACTERS = 16 * 1024
"""How much of the end of standard error goes into an exception."""

_SHOWN_PATHS = 10

_FINISH = {
    "merge": "commit the resolution or run git merge --abort",
    "rebase": "run git rebase --continue or --abort",
    "am": "run git am --continue or --abort",
    "cherry-pick": "run git cherry-pick --continue or --abort",
    "revert": "run git revert --continue or --abort",
    "bisect": "run git bisect reset",
    "conflicts": "resolve them and run git add",
}

_MESSAGES = {
    "no-git": "there is no git in the machine: install it in the image",
    "not-a-repository": "{path} is not the top of a git repository",
    "scratch": "no temporary directory could be made or filled in the machine: is its disk full?",
    "branch-exists": "the branch {detail!r} exists already and holds other commits",
    "locked": "the git index is locked: remove {detail} if no git process is running in the machine",
    "no-revision": "there is no commit {detail!r} in the machine's repository",
    "config": "the repository's configuration could not be written",
}


def listing(paths: Iterable[str]) -> str:
    """Return some paths for a message, sorted, at most ten."""
    names = sorted(paths)
    shown = ", ".join(repr(name) for name in names[:_SHOWN_PATHS])
    return shown if len(names) <= _SHOWN_PATHS else f"{shown} and {len(names) - _SHOWN_PATHS} more"


def git_error(
    command: str, result: ExecResult, *, path: str, failed: type[GitError], redact: Callable[[str], str]
) -> GitError:
    """Return the error for a script that ended with an exit code other than 0.

    Args:
        command: the git command that the operation amounts to.
        result: how the script ended.
        path: the repository.
        failed: the class for what has none of its own.
        redact: removes secrets from a text.
    """
    stderr = redact(result.stderr)[-MAX_STDERR_CHARACTERS:]
    failure = parse_failure(result.stdout_bytes) or Failure(name="died")
    argv = ("git", command)
    code = result.exit_code
    if failure.name == "rejected" or "ref updates aborted by hook" in stderr:
        return CommitRejected(
            f"a hook of the repository refused the commit: {_last_line(stderr)}",
            argv=argv,
            exit_code=code,
            stderr=stderr,
        )
    if failure.name in ("in-progress", "unmerged") and issubclass(failed, CommitError):
        message = redact(_unfinished(failure))
        return CommitError(message, in_progress=failure.detail, argv=argv, exit_code=code, stderr=stderr)
    if failure.name in ("conflict", "overlap"):
        conflict = failure.name == "conflict"
        files = tuple(sorted(set(failure.fields))) if conflict else overlap(failure.fields)
        what = "the pull conflicts in" if conflict else "the pull would overwrite uncommitted changes in"
        return PullConflictError(
            redact(f"{what} {listing(files)}: nothing was changed"),
            files=files,
            argv=argv,
            exit_code=code,
            stderr=stderr,
        )
    if failure.name == "diverged":
        ahead, behind = (int(count) for count in failure.detail.split())
        return PullDivergedError(
            f"the branch is {ahead} ahead of and {behind} behind the remote's, so it cannot be fast-forwarded: "
            "pull with the policy rebase or merge",
            ahead=ahead,
            behind=behind,
            argv=argv,
            exit_code=code,
            stderr=stderr,
        )
    if failure.name in ("in-progress", "unmerged"):
        message = _unfinished(failure)
    elif failure.name == "unreadable":
        left = listing(name for name in failure.fields if not name.endswith("/"))
        message = f"git cannot add {left}, so a commit would miss that: make it readable, or ignore it"
    elif failure.name == "large":
        message = f"going back would overwrite {listing(failure.fields)}, too large for any checkpoint: move that first"
    elif failure.name in _MESSAGES:
        message = _MESSAGES[failure.name].format(path=path, detail=failure.detail)
    else:
        message = f"git {command} failed in {path}: {_last_line(stderr) or f'exit code {code}'}"
    return failed(redact(message), argv=argv, exit_code=code, stderr=stderr)


def _unfinished(failure: Failure) -> str:
    what = "there are unresolved conflicts" if failure.detail == "conflicts" else f"a {failure.detail} is in progress"
    if failure.name == "unmerged" and failure.detail != "conflicts":
        what += " with unresolved conflicts"
    return f"{what}: {_FINISH.get(failure.detail, 'finish it')} (a checkpoint keeps everything as it is)"


def _last_line(stderr: str) -> str:
    """Return the most telling line: git's own ``fatal:`` or ``error:``, else the last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (telling or lines or [""])[-1]
