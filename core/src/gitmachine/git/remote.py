"""The remote: asked what it has, pushed to, and its refusals told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence  # noqa: TC003  # attrs resolves annotations at run time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CloneError, GitError
from gitmachine.git.host import GitCall, GitResult, HostGit
from gitmachine.git.local import is_repository
from gitmachine.git.model import Operation, RemoteState

if TYPE_CHECKING:
    from gitmachine.git.credentials import CredentialSource
    from gitmachine.git.names import RepositoryUrl

__all__ = ["Failure", "PushAnswer", "Remote", "classify", "last_words", "parse_remote_state"]


class Failure(StrEnum):
    """Why a remote did not do what it was asked."""

    AUTHENTICATION = "authentication"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    OTHER = "other"


# What git, curl, ssh and the large hosts say, in the C locale and lower case.
_AUTHENTICATION = (
    "authentication failed", "could not read username", "could not read password", "terminal prompts disabled",
    "returned error: 401", "returned error: 403", "permission denied (", "permission denied, please try again",
    "permission to ", "access denied", "host key verification failed", "too many authentication failures",
    "invalid username or password", "invalid credentials", "write access to repository not granted",
    "you are not allowed to",
)  # fmt: skip
_MISSING = (
    "repository not found", "does not appear to be a git repository", "returned error: 404", "' not found",
    "no such file or directory", "project you were looking for could not be found", "not a git repository",
)  # fmt: skip
_UNREACHABLE = (
    "could not resolve host", "could not resolve proxy", "failed to connect", "couldn't connect", "connection refused",
    "connection timed out", "operation timed out", "operation too slow", "connection reset", "network is unreachable",
    "no route to host", "empty reply from server", "returned error: 5", "early eof", "hung up", "rpc failed",
    "unexpected disconnect", "ssl", "recv failure", "transfer closed", "did not end within", "moved nothing for",
    "connection closed", "name or service not known", "invalid index-pack output", "expected flush after ref listing",
    "broken pipe", "unable to access", "could not read from remote repository", "proxy",
)  # fmt: skip


def classify(stderr: str) -> Failure:
    """Tell from git's messages why a remote refused."""
    text = stderr.lower()
    for failure, phrases in (
        (Failure.AUTHENTICATION, _AUTHENTICATION),
        (Failure.MISSING, _MISSING),
        (Failure.UNREACHABLE, _UNREACHABLE),
    ):
        if any(phrase in text for phrase in phrases):
            return failure
    return Failure.OTHER


def last_words(stderr: str, characters: int = 500) -> str:
    """Return the end of what git said, from the beginning of a line on where there is one."""
    text = stderr.strip()
    end = text[-characters:]
    _cut, newline, lines = end.partition("\n")
    return lines if newline and len(text) > characters else end


def parse_remote_state(output: bytes) -> RemoteState:
    """Parse ``git ls-remote --symref``; branches and tags only, annotated tags by their own object."""
    default, head, refs = None, None, {}
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: refs/heads/") and name == "HEAD":
            default = value.removeprefix("ref: refs/heads/")
        elif name == "HEAD":
            head = value
        elif name.startswith(("refs/heads/", "refs/tags/")) and not name.endswith("^{}"):
            refs[name] = value
    if default is None and head is not None:
        # An old server names no target: the only branch at HEAD's commit, else the usual names.
        at_head = [ref.removeprefix("refs/heads/") for ref, sha in refs.items() if sha == head]
        default = next((name for name in ("main", "master", *at_head) if name in at_head), None)
    if default is not None and f"refs/heads/{default}" not in refs:
        default = None
    return RemoteState(default_branch=default, refs=refs)


@attrs.frozen(kw_only=True)
class PushAnswer:
    """What `git push` said. It is a claim: only asking the remote afterwards tells.

    Attributes:
        flag: git's mark for the ref (``*`` new, `` `` moved, ``=`` nothing to do, ``+`` forced, ``!`` refused, or ""
            when it said nothing).
        summary: git's words for the ref.
        result: the whole command.
    """

    flag: str
    summary: str
    result: GitResult


class Remote:
    """One remote repository, reached from the host with the session's credential."""

    def __init__(self, url: RepositoryUrl, host: HostGit, credentials: CredentialSource) -> None:
        self.url = url
        self._host = host
        self.credentials = credentials

    async def ask(self, operation: Operation = Operation.READ) -> RemoteState:
        """Ask what it has now.

        Raises:
            CloneError: it does not exist, does not accept the credential, or cannot be reached; `failure` in the
                cause's text tells which.
        """
        await self.check_exists()
        call = GitCall(
            args=("ls-remote", "--symref", "--", self.url.url),
            remote=self.url,
            credential=await self.credentials(operation),
            seconds=self._host.limits.ask_seconds,
        )
        try:
            result = await self._host.run(call)
        except GitError as error:
            raise self.clone_error(error) from error
        return parse_remote_state(result.stdout)

    async def check_exists(self) -> None:
        """For a repository of this host: raise `CloneError` when its directory does not exist."""
        path = Path(self.url.path)
        if self.url.local and not await asyncio.to_thread(path.is_dir):
            what = "is a file" if await asyncio.to_thread(path.is_file) else "does not exist"
            raise CloneError(f"repository {self.url.display!r} {what}: expected a directory with a git repository")

    async def fetch(self, git_dir: Path, refspecs: Sequence[str], *, prune: bool = False) -> GitResult:
        """Fetch into a bare repository of ours; whether anything came is for the caller to look at.

        Raises:
            CloneError: as for `ask`.
        """
        options = ["--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--progress", "--force"]
        options += ["--prune"] if prune else []
        call = GitCall(
            args=("fetch", *options, "--", self.url.url, *refspecs),
            git_dir=git_dir,
            remote=self.url,
            credential=await self.credentials(Operation.READ),
            idle_seconds=self._host.limits.idle_seconds,
        )
        try:
            return await self._host.run(call)
        except GitError as error:
            raise self.clone_error(error) from error

    async def push(self, git_dir: Path, sha: str, branch: str, *, lease: str | None = None) -> PushAnswer:
        """Push a commit to a branch; never forced, except under a lease (the sha that the branch must have).

        Raises:
            GitError: git could not be run or a deadline passed. A refusal is an answer.
        """
        ref = f"refs/heads/{branch}"
        options = ["--porcelain", "--progress", "--no-verify", "--no-follow-tags"]
        options += [f"--force-with-lease={ref}:{lease}"] if lease is not None else []
        call = GitCall(
            args=("push", *options, "--", self.url.url, f"{sha}:{ref}"),
            git_dir=git_dir,
            remote=self.url,
            credential=await self.credentials(Operation.WRITE),
            idle_seconds=self._host.limits.idle_seconds,
            check=False,
        )
        result = await self._host.run(call)
        flag, summary = parse_push(result.text, ref)
        return PushAnswer(flag=flag, summary=summary, result=result)

    def clone_error(self, error: GitError) -> CloneError:
        """Return the error for a remote that could not be read: one sentence that says what to do."""
        shown = repr(self.url.display)
        if self.url.local and not is_repository(Path(self.url.path)):
            return CloneError(_no_repository(self.url), argv=error.argv, exit_code=error.exit_code, stderr=error.stderr)
        sentence = {
            Failure.AUTHENTICATION: f"{shown} did not accept the credential: give a token that may read it",
            Failure.MISSING: f"repository {shown} does not exist, or the credential may not see it",
            Failure.UNREACHABLE: f"{shown} cannot be reached or broke off: check the address and the network",
            Failure.OTHER: f"{shown} could not be read",
        }[classify(f"{error} {error.stderr}")]
        said = f" (git said: {last_words(error.stderr)})" if error.stderr else f" ({error})"
        return CloneError(sentence + said, argv=error.argv, exit_code=error.exit_code, stderr=error.stderr)


def _no_repository(url: RepositoryUrl) -> str:
    above = next((folder for folder in Path(url.path).resolve().parents if is_repository(folder)), None)
    if above is not None:
        return f"{url.display!r} is a folder in the repository {str(above)!r}: name that one"
    return f"{url.display!r} is no git repository: make one of it with git init, or name another"


def parse_push(output: str, ref: str) -> tuple[str, str]:
    """Return git's mark and words for `ref` from ``git push --porcelain``."""
    for line in output.splitlines():
        flag, _, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        if len(flag) == 1 and names.rpartition(":")[2] == ref:
            return flag, summary
    return "", ""
