"""What a guard kept out of commits, in the session repository: the contents, and a record of each file.

The contents are in the survey's commit of everything uncommitted, which a ref of their own keeps from now on.
"""

from __future__ import annotations

import asyncio
import json
import os
import posixpath
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs

from gitmachine.errors import GitError, StateError
from gitmachine.git.host import GitCall, end_process
from gitmachine.git.mirror import update_refs
from gitmachine.git.parsing import decode, parse_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gitmachine.git.store import SessionRepository
    from gitmachine.outcomes import Withheld

__all__ = ["WITHHELD", "WithheldFile", "drop_withheld", "keep_withheld", "list_withheld", "restore_file"]

WITHHELD = "refs/withheld/"
"""In a session repository: commits of working trees that hold what was withheld."""

CHANGES = "refs/machine/gitmachine/keep/changes"
"""What a machine had uncommitted when it was surveyed last."""

PATHS_PER_CALL = 200
CHUNK_BYTES = 1024 * 1024


@attrs.frozen(kw_only=True)
class WithheldFile:
    """A file as it was when it was withheld last.

    Attributes:
        path: relative to the repository.
        reason: why it was withheld.
        plugin: who asked for that.
        blob: its content, or None when there is none (a deletion, a link).
        size_bytes: of the content.
        executable: whether it may be run.
        time: when (UTC).
    """

    path: str
    reason: str
    plugin: str
    blob: str | None
    size_bytes: int
    executable: bool
    time: datetime


async def keep_withheld(
    store: SessionRepository, commit: str, files: Sequence[Withheld]
) -> tuple[tuple[Withheld, ...], tuple[Withheld, ...]]:
    """Keep withheld files, whose contents `commit` has; returns all of them, and those that are new or have changed.

    Raises:
        GitError: the commit was not collected.
    """
    contents = await _contents(store, commit, [file.path for file in files])
    known = {file.path: file for file in await list_withheld(store)}
    now = datetime.now(UTC)
    found, fresh = [], []
    for file in files:
        blob, size, executable = contents.get(file.path, (None, 0, False))
        kept = attrs.evolve(file, blob=blob, size_bytes=size)
        found.append(kept)
        before = known.get(file.path)
        if before is not None and (before.blob, before.reason) == (blob, file.reason):
            continue
        fresh.append(kept)
        known[file.path] = WithheldFile(**attrs.asdict(kept), executable=executable, time=now)
    if fresh:
        numbers = [int(ref.removeprefix(WITHHELD)) for ref in await store.refs(WITHHELD)]
        await store.set_ref(f"{WITHHELD}{max(numbers, default=0) + 1}", commit)
        await asyncio.to_thread(_write, store.path, known)
    return tuple(found), tuple(fresh)


async def list_withheld(store: SessionRepository) -> tuple[WithheldFile, ...]:
    """Return the files withheld from a session's commits, each as it was the last time, sorted by path.

    Raises:
        StateError: their record is damaged.
    """
    return await asyncio.to_thread(_read, store.path)


async def restore_file(store: SessionRepository, file: WithheldFile, folder: Path, *, overwrite: bool = False) -> Path:
    """Write a withheld file below a folder, readable by its owner only; returns where it is.

    Nothing is written through a link, nor outside of the folder.

    Raises:
        StateError: it has no content, its place is taken (unless `overwrite`), or a link is in the way.
        GitError: this host does not have it any more.
    """
    if file.blob is None:
        raise StateError(f"{file.path!r} has no content to restore: it was deleted, or is a link")
    place = await asyncio.to_thread(_place, folder, file.path, overwrite)
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".gitmachine-")  # mkstemp makes it 0600
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            copied = await _copy(store, file.blob, stream)
        if copied != file.size_bytes:
            raise GitError(f"{file.path!r} could not be read completely from {str(store.path)!r}")
        await asyncio.to_thread(_finish, fresh, place, file.executable)
    finally:
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
    return place


async def drop_withheld(store: SessionRepository, *, ended: bool) -> None:
    """Forget the files; their contents go when the session repository does.

    Args:
        store: the session repository.
        ended: whether the machine is gone, so that what it had uncommitted may be forgotten when that was all.
    """
    refs = await store.refs(WITHHELD)
    paths = {file.path for file in await list_withheld(store)}
    changes = (await store.refs(CHANGES)).get(CHANGES)
    gone = list(refs)
    if ended and changes is not None and changes in refs.values() and await _changed(store, changes) <= paths:
        gone.append(CHANGES)
    if gone:
        await update_refs(store.host, store.path, "".join(f"delete {ref}\0\0" for ref in gone))
    await asyncio.to_thread((store.path / "withheld.json").unlink, missing_ok=True)


async def _changed(store: SessionRepository, commit: str) -> set[str]:
    args = ("diff-tree", "-r", "-z", "--root", "--no-commit-id", "--name-only", "--no-renames", commit, "--")
    listed = await store.host.run(GitCall(args=args, git_dir=store.path))
    return {decode(path) for path in parse_fields(listed.stdout)}


async def _contents(store: SessionRepository, commit: str, paths: Sequence[str]) -> dict[str, tuple[str, int, bool]]:
    """Return blob, size and whether it may be run of each regular file that a commit has."""
    found = {}
    for start in range(0, len(paths), PATHS_PER_CALL):
        args = ("ls-tree", "-z", "-l", "--full-tree", commit, "--", *paths[start : start + PATHS_PER_CALL])
        env = {"GIT_LITERAL_PATHSPECS": "1"}
        for entry in parse_fields((await store.host.run(GitCall(args=args, git_dir=store.path, env=env))).stdout):
            about, _, path = entry.partition(b"\t")
            bits, kind, blob, size = about.split()
            if kind == b"blob" and bits != b"120000":
                found[decode(path)] = (blob.decode(), int(size), bits == b"100755")
    return found


async def _copy(store: SessionRepository, blob: str, target: BinaryIO) -> int:
    process = await store.host.spawn(GitCall(args=("cat-file", "blob", blob), git_dir=store.path))
    copied = 0
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        async with asyncio.timeout(store.host.limits.work_seconds):
            while data := await process.stdout.read(CHUNK_BYTES):
                copied += await asyncio.to_thread(target.write, data)
    except TimeoutError as error:
        raise GitError(f"git cat-file did not end within {store.host.limits.work_seconds:g} s") from error
    finally:
        await end_process(process)
    return copied


def _finish(fresh: Path, place: Path, executable: bool) -> None:
    if executable:
        fresh.chmod(0o700)
    fresh.replace(place)


def _place(folder: Path, path: str, overwrite: bool) -> Path:
    parts = path.split("/")
    if posixpath.isabs(path) or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise StateError(f"{path!r} is no path that a file can be restored to")
    folder.mkdir(parents=True, exist_ok=True)
    place = folder
    for part in parts[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise StateError(f"{str(place)!r} is no directory, so {path!r} cannot be restored there")
        place.mkdir(exist_ok=True)
    place /= parts[-1]
    if place.is_dir() and not place.is_symlink():
        raise StateError(f"{str(place)!r} is a directory: choose another one to restore to")
    if (place.exists() or place.is_symlink()) and not overwrite:
        raise StateError(f"{str(place)!r} exists already: choose another directory, or overwrite it")
    return place


def _read(folder: Path) -> tuple[WithheldFile, ...]:
    file = folder / "withheld.json"
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        found = [WithheldFile(**record | {"time": datetime.fromisoformat(record["time"])}) for record in records]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError(f"{str(file)!r} cannot be read: move it away") from error
    return tuple(sorted(found, key=lambda one: one.path))


def _write(folder: Path, files: Mapping[str, WithheldFile]) -> None:
    records = [attrs.asdict(file) | {"time": file.time.isoformat()} for file in _sorted(files.values())]
    fresh = folder / "withheld.json.new"
    fresh.write_text(json.dumps(records), encoding="utf-8")
    fresh.replace(folder / "withheld.json")


def _sorted(files: Iterable[WithheldFile]) -> list[WithheldFile]:
    return sorted(files, key=lambda file: file.path)
