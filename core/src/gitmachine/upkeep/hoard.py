"""What this host keeps of a session, and whether it is the only copy; asks this host's files only, never a remote.

A mirror has what its remote had when that was last asked, and what a push brought there, verified. So a commit that
the mirror has is published.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.git.host import HostGit
from gitmachine.git.mirror import read_refs
from gitmachine.git.model import RemoteState
from gitmachine.git.store import SessionRepository
from gitmachine.state.origins import forget_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.outcomes import Kept
    from gitmachine.state.places import Places
    from gitmachine.state.records import MachineRecord

__all__ = ["Hoard", "last_used", "lenders", "size_of"]


def size_of(path: Path) -> int:
    """Return how much a file or a whole folder takes, in bytes; what goes away meanwhile counts nothing."""
    total = 0
    pending = [path]
    while pending:
        current = pending.pop()
        try:
            found = current.lstat()
            total += found.st_size
            if current.is_dir() and not current.is_symlink():
                pending += current.iterdir()
        except OSError:
            continue
    return total


def last_used(repository: Path) -> datetime:
    """Return when a bare repository of ours last changed."""
    newest = 0.0
    for path in (repository, repository / "objects", repository / "objects/pack", repository / "refs"):
        try:
            newest = max(newest, path.stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(newest, UTC)


def lenders(repository: Path) -> tuple[Path, ...]:
    """Return the repositories whose objects a bare repository of ours borrows; the mirror is the first."""
    try:
        lines = (repository / "objects/info/alternates").read_bytes().splitlines()
    except OSError:
        return ()
    return tuple(Path(os.fsdecode(line)).parent for line in lines if line and not line.startswith(b"#"))


def _unchecked(store: Path) -> bool:
    return (store / "quarantine").exists() or any(store.glob("nested/*.gone-*"))


class Hoard:
    """The session repositories and mirrors of this host."""

    def __init__(self, places: Places, records: Mapping[str, MachineRecord]) -> None:
        """Take the journal's rows by their keys."""
        self.places = places
        self.records = records
        self.host = HostGit()

    def stores(self) -> tuple[Path, ...]:
        """Return the session repositories."""
        return tuple(sorted(self.places.sessions.glob("*.git"))) if self.places.sessions.is_dir() else ()

    def mirrors(self) -> tuple[Path, ...]:
        """Return the mirrors."""
        return tuple(sorted(self.places.mirrors.glob("*.git"))) if self.places.mirrors.is_dir() else ()

    def live(self, key: str) -> MachineRecord | None:
        """Return the row of a session whose machine is live, or None."""
        record = self.records.get(key)
        return record if record is not None and not record.ended else None

    async def published(self, store: Path) -> RemoteState:
        """Return what the remote of a session repository is known to have.

        Raises:
            GitError: nothing is known: its mirror is gone, and nothing was ever pushed from it.
        """
        refs = await read_refs(self.host, store, ("refs/published/",))
        mirror = next(iter(lenders(store)), None)
        if mirror is not None and (mirror / "HEAD").exists():
            refs |= await read_refs(self.host, mirror, ("refs/heads/", "refs/tags/"))
        elif not refs:
            raise GitError(f"the mirror of {str(store)!r} is gone")
        return RemoteState(default_branch=None, refs=refs)

    async def unpublished(self, store: Path, branch: str | None) -> tuple[Kept, ...]:
        """Return the work of a session repository that its remote is not known to have.

        Raises:
            GitError: nothing is known of the remote, or the repository is damaged.
        """
        repository = SessionRepository(store, self.host, next(iter(lenders(store)), None))
        return await repository.unpublished(await self.published(store), branch)

    async def why_needed(self, store: Path) -> str | None:
        """Return why a session repository must stay, or None."""
        record = self.live(store.stem)
        if record is not None:
            return f"the machine {record.label} is live"
        if _unchecked(store):
            return "it holds what could not be checked"
        known = self.records.get(store.stem)
        try:
            kept = await self.unpublished(store, known.session if known is not None else None)
        except GitError as error:
            return f"whether its work is published is not known: {error}"
        if not kept:
            return None
        names = ", ".join(f"{item.kind} {item.name} ({item.sha[:10]})" for item in kept[:5])
        return f"the remote lacks its work: {names}" + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")

    async def remove(self, store: Path) -> None:
        """Remove a session repository with what is beside it."""
        aside = store.with_name(f".removing-{store.name}-{os.urandom(4).hex()}")
        await asyncio.to_thread(store.rename, aside)
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
        await forget_origin(self.places, store.stem)
