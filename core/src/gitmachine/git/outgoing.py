"""Commits on their way to the remote, as they are in the session repository on this host, for whoever vets a push."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import attrs

from gitmachine.errors import GitError
from gitmachine.git.host import GitCall
from gitmachine.git.parsing import decode, encode, parse_fields, parse_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from gitmachine.git.model import Commit
    from gitmachine.git.store import SessionRepository

__all__ = ["OutgoingCommits", "OutgoingFile", "outgoing"]

MAX_COMMITS = 10_000
"""How many commits are listed; the files are those of all."""

BATCH_BYTES = 32 * 1024 * 1024
"""How much content is held at a time."""


@attrs.frozen
class OutgoingFile:
    """Content that the remote does not have yet: `blob` is its id, `path` the first path that a commit has it under."""

    path: str
    blob: str
    size_bytes: int


class OutgoingCommits(Sequence["Commit"]):
    """The commits of the session branch that the remote lacks, newest first, with a way to their files.

    Attributes:
        branch: the session branch.
        sha: its commit.
        repository: the bare repository on this host that holds them, for programs of your own.
    """

    def __init__(
        self, store: SessionRepository, *, branch: str, sha: str, known: Sequence[str], commits: Sequence[Commit]
    ) -> None:
        """Take what `outgoing` found; `known` are the commits that the remote has."""
        self.branch = branch
        self.sha = sha
        self._store = store
        self._known = tuple(known)
        self._commits = tuple(commits)

    @property
    def repository(self) -> Path:
        """The bare repository on this host that holds them."""
        return self._store.path

    @overload
    def __getitem__(self, index: int) -> Commit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Commit]: ...
    def __getitem__(self, index: int | slice) -> Commit | Sequence[Commit]:
        return self._commits[index]

    def __len__(self) -> int:
        return len(self._commits)

    async def files(self) -> tuple[OutgoingFile, ...]:
        """Return every file's content that these commits bring and the remote's history does not have."""
        args = ("rev-list", "--objects", "--ignore-missing", "--stdin")
        listed = await self._run(args, _revisions(self.sha, self._known))
        paths: dict[bytes, bytes] = {}
        for line in listed.splitlines():
            blob, _, path = line.partition(b" ")
            if path:  # commits have none, nor has a commit's own tree
                paths.setdefault(blob, path)
        if not paths:
            return ()
        asked = b"".join(blob + b"\n" for blob in paths)
        answers = await self._run(("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"), asked)
        found = []
        for line in answers.splitlines():
            blob, kind, size = line.split(b" ")[:3]
            if kind == b"blob":
                found.append(OutgoingFile(decode(paths[blob]), blob.decode(), int(size)))
        return tuple(found)

    async def contents(self, files: Iterable[OutgoingFile]) -> AsyncIterator[tuple[OutgoingFile, bytes]]:
        """Yield each file with its content; 32 MiB are held at a time, so leave out what is too large to look at."""
        batch: list[OutgoingFile] = []
        total = 0
        for file in files:
            if batch and total + file.size_bytes > BATCH_BYTES:
                for pair in await self._read(batch):
                    yield pair
                batch, total = [], 0
            batch.append(file)
            total += file.size_bytes
        for pair in await self._read(batch):
            yield pair

    async def commit_with(self, file: OutgoingFile) -> str | None:
        """Return the oldest of these commits that has a file's content, or None when none of them shows it."""
        args = ("log", "--format=%H", "-m", f"--find-object={file.blob}", "--ignore-missing", "--stdin")
        lines = (await self._run(args, _revisions(self.sha, self._known))).split()
        return lines[-1].decode() if lines else None

    async def _read(self, files: Sequence[OutgoingFile]) -> list[tuple[OutgoingFile, bytes]]:
        if not files:
            return []
        data = await self._run(("cat-file", "--batch"), "".join(f"{file.blob}\n" for file in files).encode())
        found, position = [], 0
        for file in files:
            start = data.index(b"\n", position) + 1
            found.append((file, data[start : start + file.size_bytes]))
            position = start + file.size_bytes + 1
        return found

    async def _run(self, args: Sequence[str], stdin: bytes) -> bytes:
        return (await self._store.host.run(GitCall(args=args, git_dir=self._store.path, stdin=stdin))).stdout


def _revisions(sha: str, known: Iterable[str]) -> bytes:
    return encode("".join([f"{sha}\n", *(f"^{other}\n" for other in sorted(set(known)))]))


async def outgoing(store: SessionRepository, *, branch: str, sha: str, known: Iterable[str]) -> OutgoingCommits:
    """Find what a push of `sha` brings to a remote that has the commits `known`.

    Raises:
        GitError: the commit is not in the store.
    """
    bases = set(known)
    present = await store.present({*bases, sha})
    if sha not in present:
        raise GitError(f"the commit {sha} is not in {str(store.path)!r}")
    form = "--format=%H%x00%an%x00%ae%x00%at%x00%s%x00%b"
    args = ("log", "--no-show-signature", "--no-notes", f"--max-count={MAX_COMMITS}", "-z", form, "--stdin")
    listed = await store.host.run(GitCall(args=args, git_dir=store.path, stdin=_revisions(sha, bases & present)))
    commits = parse_log(parse_fields(listed.stdout))
    return OutgoingCommits(store, branch=branch, sha=sha, known=sorted(bases & present), commits=commits)
