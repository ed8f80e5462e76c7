"""Copies of a fake machine's files: snapshots, which live as long as this process, and what forks begin with."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import attrs

__all__ = [
    "Snapshot",
    "all_snapshots",
    "copy_files",
    "delete_snapshot",
    "find_snapshot",
    "remove_tree",
    "save",
    "snapshots_of",
]


@attrs.frozen
class Snapshot:
    """A copy of a machine's files."""

    name: str
    origin: str
    folder: Path


_snapshots: dict[str, Snapshot] = {}


def save(home: Path, origin: str, name: str | None, parent: Path | None) -> Snapshot:
    """Copy a machine's files to a place of their own; raises OSError, FileExistsError for a name that is taken."""
    if name is not None and name in _snapshots:
        raise FileExistsError(f"there is a snapshot {name!r} already: delete it, or choose another name")
    folder = Path(tempfile.mkdtemp(prefix="fake-snapshot-", dir=parent))
    try:
        copy_files(home, folder)
    except BaseException:
        remove_tree(folder)
        raise
    snapshot = Snapshot(name if name is not None else folder.name, origin, folder)
    _snapshots[snapshot.name] = snapshot
    return snapshot


def find_snapshot(name: str) -> Snapshot | None:
    """Return the snapshot of this name, or None."""
    return _snapshots.get(name)


def all_snapshots() -> list[Snapshot]:
    """Return the snapshots of all machines, oldest first."""
    return list(_snapshots.values())


def snapshots_of(origin: str) -> list[str]:
    """Return the names of a machine's snapshots, oldest first."""
    return [snapshot.name for snapshot in _snapshots.values() if snapshot.origin == origin]


def delete_snapshot(name: str) -> None:
    """Remove a snapshot, if there is one."""
    snapshot = _snapshots.pop(name, None)
    if snapshot is not None:
        remove_tree(snapshot.folder)


def copy_files(source: Path, target: Path) -> None:
    """Copy a tree into an existing directory, as it is; what vanishes meanwhile is left out, sockets too."""
    for entry in list(os.scandir(source)):
        with contextlib.suppress(FileNotFoundError):
            _copy(entry, target / entry.name)
    with contextlib.suppress(FileNotFoundError):
        shutil.copystat(source, target)


def _copy(entry: os.DirEntry[str], target: Path) -> None:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        target.mkdir()
        copy_files(Path(entry.path), target)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target, stat.S_IMODE(mode))
    elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        shutil.copy2(entry.path, target, follow_symlinks=False)


def remove_tree(root: Path) -> None:
    """Remove a tree, also where commands took our permission to do so."""
    for folder, names, _ in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(root, ignore_errors=True)


@atexit.register
def _delete_all() -> None:
    for name in list(_snapshots):
        delete_snapshot(name)
