"""What this host keeps of repositories, how much it takes, and what of it may go: never the only copy of work."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from gitmachine.state.journal import Journal
from gitmachine.state.origins import recall_origin
from gitmachine.state.places import Places
from gitmachine.upkeep.hoard import Hoard, last_used, lenders, size_of
from gitmachine.upkeep.plain import as_plain
from gitmachine.upkeep.rescues import SavedWork, drop_rescue, rescues

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CacheEntry", "CacheUsage", "Pruned", "cache_usage", "prune_cache"]

Kind = Literal["mirror", "session", "bundle"]


@attrs.frozen(kw_only=True)
class CacheEntry:
    """One thing that this host keeps.

    Attributes:
        kind: ``mirror`` (what a remote has), ``session`` (what a machine made), ``bundle`` (a rescue).
        name: the session's key, the rescue's name, or the mirror's.
        path: where it is.
        size_bytes: what it takes.
        last_used: when it last changed (UTC).
        repository: the remote's URL, or None when it is not known.
        needed: why it must stay, or None when it may go.
    """

    kind: Kind
    name: str
    path: str
    size_bytes: int
    last_used: datetime
    repository: str | None = None
    needed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


@attrs.frozen(kw_only=True)
class CacheUsage:
    """Everything that this host keeps."""

    entries: tuple[CacheEntry, ...]

    @property
    def total_bytes(self) -> int:
        """What all of it takes."""
        return sum(entry.size_bytes for entry in self.entries)

    def bytes_of(self, kind: str) -> int:
        """Return what the entries of one kind take."""
        return sum(entry.size_bytes for entry in self.entries if entry.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {"entries": [entry.as_dict() for entry in self.entries], "total_bytes": self.total_bytes}


@attrs.frozen(kw_only=True)
class Pruned:
    """What became of one entry: removed (in a dry run: to be removed) or not, and why."""

    entry: CacheEntry
    removed: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


async def cache_usage() -> CacheUsage:
    """Return what this host keeps; nothing is changed and no remote is asked.

    Raises:
        StateError: the journal or a rescue's record cannot be read.
    """
    return CacheUsage(entries=await _entries(await _hoard(), await rescues()))


async def prune_cache(
    *, max_age_days: float | None = 30.0, max_bytes: int | None = None, dry_run: bool = False
) -> tuple[Pruned, ...]:
    """Remove what was not used for long, and the least recently used until the rest fits.

    What is needed stays, whatever its age: session repositories of live machines or with work that the remote is not
    known to have, rescues with such work, and mirrors that one of them is built on or that a process is updating.

    Args:
        max_age_days: what was used since stays, unless `max_bytes` is exceeded; None is no limit.
        max_bytes: how much may be kept altogether; None is no limit.
        dry_run: only tell what would be done.

    Raises:
        StateError: the journal or a rescue's record cannot be read.
    """
    usage = await cache_usage()
    oldest = None if max_age_days is None else datetime.now(UTC) - timedelta(days=max_age_days)
    left, done = usage.total_bytes, []
    going: set[str] = set()
    # Rescues first, then what they are built on: a mirror is free once the last session repository on it went.
    order = {"bundle": 0, "session": 1, "mirror": 2}
    for entry in sorted(usage.entries, key=lambda one: (order[one.kind], one.last_used)):
        reason = _reason(entry, oldest, left, max_bytes)
        needed = await _needed_now(entry, usage, going) if reason is not None else entry.needed
        if reason is None or needed is not None:
            done.append(Pruned(entry=entry, removed=False, why=needed or "it was used lately"))
            continue
        held = None if dry_run else await _remove(entry)
        if held is None:
            going.add(entry.path)
            left -= entry.size_bytes
        done.append(Pruned(entry=entry, removed=held is None, why=held or reason))
    return tuple(done)


def _reason(entry: CacheEntry, oldest: datetime | None, left: int, max_bytes: int | None) -> str | None:
    if oldest is not None and entry.last_used < oldest:
        return f"it was last used on {entry.last_used:%Y-%m-%d}"
    if max_bytes is not None and left > max_bytes:
        return f"more than {max_bytes} bytes are kept"
    return None


async def _needed_now(entry: CacheEntry, usage: CacheUsage, going: set[str]) -> str | None:
    """Look again at what is needed, without what has gone already."""
    if entry.kind == "session":
        rest = [one for one in usage.entries if one.kind == "bundle" and one.path not in going]
        if any(one.name.startswith(f"{entry.name}-") for one in rest):
            return entry.needed or "a rescue is made from it"
        return entry.needed
    if entry.kind == "mirror":
        return _borrowed(entry.path, [one for one in usage.entries if one.path not in going])
    return entry.needed


def _borrowed(mirror: str, entries: Sequence[CacheEntry]) -> str | None:
    for one in entries:
        if one.kind == "session" and Path(mirror) in lenders(Path(one.path)):
            return f"the session repository {one.name} is built on it"
    return None


async def _hoard() -> Hoard:
    places = Places.default()
    async with await Journal.aopen(places.ensure()) as journal:
        records = await journal.machines(include_ended=True)
    return Hoard(places, {record.key: record for record in records})


async def _entries(hoard: Hoard, saved: Sequence[SavedWork]) -> tuple[CacheEntry, ...]:
    sessions = [await _session(hoard, store) for store in hoard.stores()]
    by_path = {entry.path: entry for entry in sessions}
    made = [_bundle(work, by_path.get(work.repository)) for work in saved]
    mirrors = []
    for mirror in hoard.mirrors():
        users = [one for one in sessions if mirror in lenders(Path(one.path))]
        mirrors.append(
            CacheEntry(
                kind="mirror",
                name=mirror.stem,
                path=str(mirror),
                size_bytes=await asyncio.to_thread(size_of, mirror),
                last_used=max([last_used(mirror), *(one.last_used for one in users)]),
                repository=next((one.repository for one in users if one.repository), None),
                needed=_borrowed(str(mirror), sessions),
            )
        )
    return (*mirrors, *sessions, *made)


async def _session(hoard: Hoard, store: Path) -> CacheEntry:
    origin = await recall_origin(hoard.places, store.stem)
    record = hoard.records.get(store.stem)
    return CacheEntry(
        kind="session",
        name=store.stem,
        path=str(store),
        size_bytes=await asyncio.to_thread(size_of, store),
        last_used=last_used(store),
        repository=origin.repository if origin else record.repository if record else None,
        needed=await hoard.why_needed(store),
    )


def _bundle(work: SavedWork, session: CacheEntry | None) -> CacheEntry:
    needed = None
    if work.machine_kept:
        needed = f"the machine {work.machine} is live"
    elif session is None:
        needed = "its session repository is gone, so this is the only copy"
    elif session.needed is not None:
        needed = session.needed
    return CacheEntry(
        kind="bundle",
        name=work.name,
        path=work.bundle or str(Places.default().bundles / f"{work.name}.json"),
        size_bytes=work.size_bytes,
        last_used=work.time,
        repository=work.remote,
        needed=needed,
    )


async def _remove(entry: CacheEntry) -> str | None:
    """Remove an entry; returns why it could not be."""
    if entry.kind == "bundle":
        await drop_rescue(entry.name)
        return None
    if entry.kind == "session":
        hoard = await _hoard()
        path = Path(entry.path)
        if path not in hoard.stores():
            return None  # it went with its last rescue
        needed = await hoard.why_needed(path)
        if needed is None:
            await hoard.remove(path)
        return needed
    return await asyncio.to_thread(_remove_mirror, Path(entry.path))


def _remove_mirror(path: Path) -> str | None:
    """Remove a mirror unless somebody updates it."""
    held = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "a process is updating it"
        aside = path.with_name(f".removing-{path.name}-{os.urandom(4).hex()}")
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        return None
    finally:
        os.close(held)
