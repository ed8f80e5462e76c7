"""Files that a guard kept out of commits: listed, given back, forgotten."""

from __future__ import annotations

import asyncio
from datetime import datetime  # noqa: TC003  # attrs resolves annotations at run time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import StateError
from gitmachine.git import withheld as files
from gitmachine.git.store import SessionRepository
from gitmachine.state.journal import Journal
from gitmachine.state.origins import recall_origin
from gitmachine.state.places import Places
from gitmachine.upkeep.hoard import Hoard, lenders
from gitmachine.upkeep.plain import as_plain

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Restored", "WithheldWork", "drop_withheld", "restore_withheld", "withheld"]


@attrs.frozen(kw_only=True)
class WithheldWork:
    """A file that was left out of a session's commits, as it was the last time.

    Attributes:
        key: the session's key.
        branch: the session branch, or None when it is not known any more.
        machine: what its machine is called, or None.
        remote: the URL of the remote, without a credential; None when it is not known.
        path: the file, relative to the repository.
        reason: why it was left out.
        plugin: who asked for that.
        size_bytes: of its content.
        time: when (UTC).
        restorable: whether it has content to give back (a deletion or a link has none).
    """

    key: str
    branch: str | None
    machine: str | None
    remote: str | None
    path: str
    reason: str
    plugin: str
    size_bytes: int
    time: datetime
    restorable: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


@attrs.frozen(kw_only=True)
class Restored:
    """What became of one file: `file` is where it is now, or `problem` says why it is not."""

    path: str
    file: str | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


async def withheld() -> tuple[WithheldWork, ...]:
    """Return every file that is kept on this host because it was left out of a commit.

    Raises:
        StateError: the journal or a session's record cannot be read.
    """
    hoard = await _hoard()
    found: list[WithheldWork] = []
    for store in hoard.stores():
        kept = await files.list_withheld(_repository(hoard, store))
        if not kept:
            continue
        record, origin = hoard.records.get(store.stem), await recall_origin(hoard.places, store.stem)
        remote = origin.repository if origin is not None else record.repository if record is not None else None
        found += [
            WithheldWork(
                key=store.stem,
                branch=record.session if record is not None else origin.session if origin is not None else None,
                machine=record.name if record is not None else None,
                remote=remote,
                path=one.path,
                reason=one.reason,
                plugin=one.plugin,
                size_bytes=one.size_bytes,
                time=one.time,
                restorable=one.blob is not None,
            )
            for one in kept
        ]
    return tuple(found)


async def restore_withheld(
    name: str, folder: str | Path, *, paths: Collection[str] = (), overwrite: bool = False
) -> tuple[Restored, ...]:
    """Write a session's withheld files below a folder, each readable by its owner only.

    Args:
        name: the session's key or its beginning, its branch, or its machine's name.
        folder: where to; made when it is missing.
        paths: only these files; empty means all.
        overwrite: whether files that are there already are replaced.

    Raises:
        StateError: no session of that name has withheld files, or several do, or a path is none of its files.
        GitError: this host does not have a file's content any more.
    """
    key = await _key(name)
    hoard = await _hoard()
    store = _repository(hoard, hoard.places.sessions / f"{key}.git")
    kept = {one.path: one for one in await files.list_withheld(store)}
    unknown = sorted(set(paths) - kept.keys())
    if unknown:
        raise StateError(f"{unknown[0]!r} is not among the withheld files: {', '.join(sorted(kept))}")
    done = []
    for path, one in kept.items():
        if paths and path not in paths:
            continue
        try:
            file = await files.restore_file(store, one, Path(folder), overwrite=overwrite)
            done.append(Restored(path=path, file=str(file)))
        except StateError as error:
            done.append(Restored(path=path, problem=str(error)))
    return tuple(done)


async def drop_withheld(name: str) -> tuple[WithheldWork, ...]:
    """Forget a session's withheld files; this host then need not keep them. Returns what they were.

    Raises:
        StateError: as for `restore_withheld`.
    """
    key = await _key(name)
    hoard = await _hoard()
    dropped = tuple(one for one in await withheld() if one.key == key)
    store = _repository(hoard, hoard.places.sessions / f"{key}.git")
    await files.drop_withheld(store, ended=hoard.live(key) is None)
    return dropped


async def _key(name: str) -> str:
    found = await withheld()
    keys = {one.key for one in found if name in {one.key, one.branch, one.machine}}
    keys = keys or {one.key for one in found if name and one.key.startswith(name)}
    if len(keys) != 1:
        names = ", ".join(sorted(keys or {one.key for one in found})) or "none"
        what = "fits several sessions" if keys else "names no session with withheld files; there are"
        raise StateError(f"{name!r} {what}: {names}")
    return keys.pop()


async def _hoard() -> Hoard:
    places = Places.default()
    async with await Journal.aopen(await asyncio.to_thread(places.ensure)) as journal:
        records = await journal.machines(include_ended=True)
    return Hoard(places, {record.key: record for record in records})


def _repository(hoard: Hoard, store: Path) -> SessionRepository:
    return SessionRepository(store, hoard.host, next(iter(lenders(store)), None))
