"""The mirror: a bare repository on the host with what the remote has, and nothing else.

A machine is served from nothing else, through a view of what this session's credential has just read: whoever may not
read a private repository gets nothing of what another session cached.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.errors import CloneError, StateError
from gitmachine.git.carrying import object_format
from gitmachine.git.host import GitCall, HostGit
from gitmachine.git.local import is_shallow
from gitmachine.git.remote import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from gitmachine.git.credentials import CredentialSource
    from gitmachine.git.model import RemoteState
    from gitmachine.git.names import RepositoryUrl

__all__ = ["Mirror", "make_bare", "read_refs", "update_refs"]

REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
"""Explicit, for a ``--mirror`` clone would also take and prune what is not the remote's business."""
ATTEMPTS = 3
"""A remote that moves between the question and the fetch is asked again this often."""
POLL_SECONDS = 0.05


class Mirror:
    """The host's copy of one remote, shared by every session on it."""

    def __init__(self, root: Path, url: RepositoryUrl, host: HostGit) -> None:
        self.path = root / f"{url.key}.git"
        self.url = url
        self._host = host
        self._before: dict[str, str] = {}
        """What was here when the remote was last asked."""

    def exists(self) -> bool:
        """Tell whether it was ever filled."""
        return (self.path / "HEAD").exists()

    async def ask(self, credentials: CredentialSource) -> RemoteState:
        """Ask the remote with this session's credential; `update` takes the answer. Raises CloneError, as that does."""
        self._before = await self._read() if self.exists() else {}
        return await Remote(self.url, self._host, credentials).ask()

    async def update(self, credentials: CredentialSource, answer: RemoteState | None = None) -> RemoteState:
        """Ask the remote with this session's credential, then fetch only if something is missing.

        Args:
            credentials: asked at each use.
            answer: what `ask` has just returned.

        Raises:
            CloneError: the remote does not exist, refuses the credential, or cannot be reached.
            StateError: another process held the mirror for too long.
        """
        remote = Remote(self.url, self._host, credentials)
        state = answer if answer is not None else await self.ask(credentials)
        before = self._before
        if before == state.refs and self.exists():
            return state
        async with self._lock():
            await make_bare(self.path, object_format=object_format(state))
            have = await self._read()
            for attempt in range(ATTEMPTS):
                if attempt > 0 or have != before:
                    # Our answer may be older than what another session has fetched, and would undo it.
                    state = await remote.ask()
                if have != state.refs:
                    await self._drop_gone(have, state)
                    await remote.fetch(self.path, REFSPECS, prune=True)
                    have = await self._read()
                if have == state.refs:
                    return state
        # An exit code of 0 proves nothing: git says success for a fetch that stored nothing.
        raise CloneError(await self._withholding())

    async def _withholding(self) -> str:
        shown = repr(self.url.display)
        if self.url.local and await asyncio.to_thread(is_shallow, Path(self.url.path)):
            complete = shlex.join(["git", "-C", self.url.path, "fetch", "--unshallow"])
            return f"{shown} is a shallow clone, so it cannot be copied: complete it ({complete}), or name its origin"
        return f"{shown} did not send what it says it has; it may be a shallow clone, or be changing all the time"

    async def adopt(self, source: Path, branch: str, sha: str) -> None:
        """Take a commit that the remote has by now from a repository on this host, without asking the network.

        Raises:
            GitError: the objects could not be brought over.
        """
        ref = f"refs/heads/{branch}"
        async with self._lock():
            call = GitCall(
                args=(
                    "fetch",
                    "--quiet",
                    "--no-tags",
                    "--no-write-fetch-head",
                    "--force",
                    "--",
                    str(source),
                    f"{sha}:{ref}",
                ),
                git_dir=self.path,
                protocols=("file",),
            )
            await self._host.run(call)

    @contextlib.asynccontextmanager
    async def view(self, state: RemoteState) -> AsyncIterator[Path]:
        """Give a repository with exactly the refs of `state` over the mirror's objects, to serve one machine from.

        The mirror's own refs are moved by every session on it, at any time, and with other credentials.
        """
        path = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="gitmachine-view-"))
        try:
            await asyncio.to_thread(_make_view, path, self.path, state)
            yield path
        finally:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def _read(self) -> dict[str, str]:
        return await read_refs(self._host, self.path, ("refs/heads/", "refs/tags/"))

    async def _drop_gone(self, have: Mapping[str, str], state: RemoteState) -> None:
        # A branch that went away stands in the way of a new one below its name.
        gone = [ref for ref in have if ref not in state.refs]
        if gone:
            await update_refs(self._host, self.path, "".join(f"delete {ref}\0\0" for ref in gone))

    @contextlib.asynccontextmanager
    async def _lock(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        held = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._host.limits.lock_seconds
            while not _try_lock(held):
                if time.monotonic() > deadline:
                    raise StateError(
                        f"another process has been updating the mirror of {self.url.display!r} for too long"
                    )
                await asyncio.sleep(POLL_SECONDS)
            yield
        finally:
            os.close(held)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def make_bare(path: Path, *, alternates: Path | None = None, object_format: str = "sha1") -> None:
    """Make a bare repository of ours when it is missing: private, without templates, never collecting garbage."""
    await asyncio.to_thread(_make_bare, path, alternates, object_format)


def _make_bare(path: Path, alternates: Path | None, object_format: str) -> None:
    """Write what ``git init --bare`` would: a handful of files, for which no process is needed."""
    if (path / "HEAD").exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made aside and renamed, so that nobody ever sees, and no crash ever leaves, half a repository.
    fresh = path.with_name(f"{path.name}.new-{os.urandom(4).hex()}")
    try:
        fresh.mkdir(mode=0o700)
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
            (fresh / name).mkdir(parents=True)
        own = "[gc]\n\tauto = 0\n[core]\n\tfsync = committed,loose-object,reference\n\tlogAllRefUpdates = false\n"
        (fresh / "config").write_text(_bare_config(object_format) + own)
        if alternates is not None:
            (fresh / "objects" / "info" / "alternates").write_bytes(os.fsencode(alternates / "objects") + b"\n")
        (fresh / "HEAD").write_text("ref: refs/heads/master\n")
        _rename(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _bare_config(object_format: str) -> str:
    if object_format == "sha1":
        return "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
    version = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n"
    return f"{version}[extensions]\n\tobjectformat = {object_format}\n"


def _rename(fresh: Path, path: Path) -> None:
    try:
        fresh.rename(path)
    except OSError:
        if not (path / "HEAD").exists():
            raise
        # Somebody else was faster; theirs is as good.


def _make_view(path: Path, mirror: Path, state: RemoteState) -> None:
    (path / "config").write_text(_bare_config(object_format(state)))
    (path / "refs").mkdir()
    (path / "objects" / "info").mkdir(parents=True)
    (path / "objects" / "info" / "alternates").write_bytes(os.fsencode(mirror / "objects") + b"\n")
    (path / "HEAD").write_bytes(b"ref: refs/heads/%b\n" % os.fsencode(state.default_branch or "main"))
    refs = sorted((name.encode("utf-8", "surrogateescape"), sha.encode()) for name, sha in state.refs.items())
    lines = [b"# pack-refs with: sorted \n", *(b"%b %b\n" % (sha, name) for name, sha in refs)]
    (path / "packed-refs").write_bytes(b"".join(lines))


async def read_refs(host: HostGit, git_dir: Path, prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the refs of a bare repository of ours, by full name."""
    argv = ("for-each-ref", "--format=%(objectname) %(refname)", *(prefix.rstrip("/") for prefix in prefixes))
    result = await host.run(GitCall(args=argv, git_dir=git_dir))
    lines = (line.split(" ", 1) for line in result.text.splitlines())
    return {name: sha for sha, name in lines}


async def update_refs(host: HostGit, git_dir: Path, script: str) -> None:
    """Run ``git update-ref --stdin -z`` with commands that end in NUL."""
    data = script.encode("utf-8", "surrogateescape")
    await host.run(GitCall(args=("update-ref", "--stdin", "-z"), git_dir=git_dir, stdin=data))
