"""Garbage: machines whose process is gone, and what ended ones left on this host."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import attrs

from gitmachine.errors import GitMachineError
from gitmachine.plugins.registry import Registry
from gitmachine.state.journal import Journal
from gitmachine.state.locks import MachineLock
from gitmachine.state.memory import forget
from gitmachine.state.places import Places, make_private
from gitmachine.state.records import ENDED_STATES
from gitmachine.steps.remains import Remains, is_orphan
from gitmachine.upkeep.hoard import Hoard, last_used
from gitmachine.upkeep.plain import as_plain
from gitmachine.upkeep.rescues import rescues
from gitmachine.upkeep.snapshots import saved_disks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gitmachine.outcomes import Receipt, Rescue
    from gitmachine.plugins.host import PluginHost
    from gitmachine.state.records import MachineRecord
    from gitmachine.steps.setup import TokenSource

__all__ = ["Collected", "collect_garbage"]

KEY_LENGTH = 16

LOCK_SECONDS = 60.0
"""How long this process waits for another one that is collecting."""


@attrs.frozen(kw_only=True)
class Collected:
    """One thing that was found, and what became of it.

    Attributes:
        kind: ``machine``; ``folder``, ``repository``, ``lock`` and ``rows`` are what ended machines left; ``unknown``
            is a machine at its provider that the journal does not know as live; ``snapshots`` are a provider's of
            machines that are not live.
        label: what it is called.
        why: why it is garbage.
        done: what was done, or in a dry run what would be.
        ok: whether it is gone (in a dry run: would be); when not, `done` says why.
        key: the session's key, or None.
        machine_id: the provider's id, or None.
        provider: the provider, or None.
        session: the session branch, or None.
        receipt: what a machine's stop returned, or None.
        rescue: where work is safe that could not be published, or None.
    """

    kind: Literal["machine", "folder", "repository", "lock", "rows", "unknown", "snapshots"]
    label: str
    why: str
    done: str
    ok: bool
    key: str | None = None
    machine_id: str | None = None
    provider: str | None = None
    session: str | None = None
    receipt: Receipt | None = None
    rescue: Rescue | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return as_plain(self)


async def collect_garbage(
    *,
    dry_run: bool = False,
    force: bool = False,
    retention_days: float = 30.0,
    token: TokenSource = None,
    plugins: PluginHost | None = None,
) -> tuple[Collected, ...]:
    """Collect the machines whose process is gone and what ended machines left; nothing that is the only copy goes.

    A machine's work is committed (if its session commits automatically) and published before it ends. When that cannot
    be, the work is rescued to this host and the machine is kept.

    Args:
        dry_run: only tell what would be done, and why.
        force: end machines also when their work could only be rescued.
        retention_days: how long what ended machines left is kept.
        token: the credential for the repositories; None asks the plugins and the host's git helpers.
        plugins: the plugins; None loads the installed ones.

    Raises:
        StateError: the journal cannot be used, or another process collects already.
    """
    from gitmachine.catalog import default_host

    places = Places.default().ensure()
    make_private(places.locks)
    async with (
        MachineLock(places.locks / "gc.lock").exclusive(LOCK_SECONDS, what="gc"),
        await Journal.aopen(places) as journal,
    ):
        gc = _Collection(places, journal, plugins or default_host(), dry_run=dry_run, force=force, token=token)
        await gc.machines()
        await gc.leftovers(datetime.now(UTC) - timedelta(days=retention_days))
        await gc.unknown()
        await gc.snapshots()
        return tuple(gc.found)


class _Collection:
    """One run of the collection."""

    def __init__(
        self,
        places: Places,
        journal: Journal,
        host: PluginHost,
        *,
        dry_run: bool,
        force: bool,
        token: TokenSource,
    ) -> None:
        self.places = places
        self.journal = journal
        self.host = host
        self.dry_run = dry_run
        self.force = force
        self.token = token
        self.found: list[Collected] = []

    async def records(self) -> dict[str, MachineRecord]:
        return {record.key: record for record in await self.journal.machines(include_ended=True)}

    async def machines(self) -> None:
        """Collect each machine whose process is gone."""
        for record in await self.journal.machines():
            if is_orphan(record):
                self.found.append(await self._machine(record))

    async def _machine(self, record: MachineRecord) -> Collected:
        from gitmachine.steps.collection import MachineOutcome, collect_machine

        if self.dry_run:
            kept = "if that fails, rescued to this host and " + ("removed" if self.force else "kept")
            outcome = MachineOutcome(ok=True, done=f"its work would be published to {record.session!r}; {kept}")
            if record.state == "starting":
                outcome = MachineOutcome(ok=True, done="what its interrupted start has made would be removed")
        else:
            remains = Remains(record=record, places=self.places, journal=self.journal, host=self.host, token=self.token)
            outcome = await collect_machine(remains, force=self.force)
        return Collected(
            kind="machine",
            label=record.label,
            why=f"the process {record.owner_pid} that drove it is gone (it was {record.state})",
            done=outcome.done,
            ok=outcome.ok,
            key=record.key,
            machine_id=record.machine_id,
            provider=record.provider,
            session=record.session,
            receipt=outcome.receipt,
            rescue=outcome.rescue,
        )

    async def leftovers(self, before: datetime) -> None:
        """Collect what ended machines left on this host."""
        records = await self.records()
        for folder in await asyncio.to_thread(_entries, self.places.machines):
            await self._folder(folder, records)
        hoard = Hoard(self.places, records)
        saved = {work.key for work in await rescues()}
        for store in hoard.stores():
            await self._repository(hoard, store, before, rescued=store.stem in saved)
        old = [record for record in records.values() if record.ended and record.updated < before]
        if old:
            done = "would be forgotten"
            if not self.dry_run:
                done = f"{await self.journal.prune(before)} forgotten, with their logs"
            why = f"they ended before {before:%F}"
            self.found.append(Collected(kind="rows", label=f"{len(old)} ended machines", why=why, done=done, ok=True))
        await self._locks()

    async def _folder(self, folder: Path, records: Mapping[str, MachineRecord]) -> None:
        record = records.get(folder.name)
        if record is not None and not record.ended:
            return
        if record is None:
            why, done = "the journal does not know its machine", "kept: its machine may be there; look at its provider"
        else:
            why, done = f"its machine has ended ({record.state})", "would be removed" if self.dry_run else "removed"
            if not self.dry_run:
                await forget(self.places, folder.name)
        self.found.append(
            Collected(kind="folder", label=str(folder), key=folder.name, why=why, done=done, ok=record is not None)
        )

    async def _repository(self, hoard: Hoard, store: Path, before: datetime, *, rescued: bool) -> None:
        record = hoard.records.get(store.stem)
        if record is not None and (not record.ended or record.updated >= before):
            return
        if await asyncio.to_thread(last_used, store) >= before:
            return
        needed = "a rescue is made from it" if rescued else await hoard.why_needed(store)
        done = f"kept: {needed}" if needed else "would be removed" if self.dry_run else "removed"
        if needed is None and not self.dry_run:
            await hoard.remove(store)
        why = f"its session ended before {before:%F}"
        self.found.append(
            Collected(kind="repository", label=str(store), key=store.stem, why=why, done=done, ok=needed is None)
        )

    async def _locks(self) -> None:
        """Remove the lock files of machines that the journal has forgotten."""
        records = await self.records()
        for path in await asyncio.to_thread(_entries, self.places.locks):
            key = path.name.partition(".")[0]
            if key in records or len(key) != KEY_LENGTH or self.places.machine_dir(key).exists():
                continue
            # Whoever holds or opens a removed lock file notices that it was removed.
            if not self.dry_run:
                await asyncio.to_thread(path.unlink, missing_ok=True)
            done = "would be removed" if self.dry_run else "removed"
            why = "the journal has forgotten its machine"
            self.found.append(Collected(kind="lock", label=str(path), key=key, why=why, done=done, ok=True))

    async def unknown(self) -> None:
        """Report machines that carry a label of ours and are not live in the journal; they are left alone."""
        from gitmachine.config.machines import restore_options

        records = await self.records()
        registry = Registry(self.host)
        for offer in registry.providers():
            if offer.spec.inventory is None:
                continue
            ours = [record for record in records.values() if record.provider == offer.spec.name]
            listed: dict[str, str] = {}
            with contextlib.suppress(GitMachineError):  # it cannot be asked here: then nothing is known of it
                listed = await registry.inventory(offer.spec.name, restore_options(ours[0].options) if ours else {})
            for machine_id, label in sorted(listed.items()):
                record = records.get(label)
                if record is None or record.ended:
                    self.found.append(_unknown(offer.spec.name, machine_id, label, record))

    async def snapshots(self) -> None:
        """Tell of the snapshots that machines left; they were made on purpose, and are left alone."""
        records = tuple((await self.records()).values())
        counts: dict[str, int] = {}
        for one in await saved_disks(Registry(self.host), records):
            if one.state is None or one.state in ENDED_STATES:
                counts[one.provider] = counts.get(one.provider, 0) + 1
        for provider, count in sorted(counts.items()):
            self.found.append(
                Collected(
                    kind="snapshots",
                    label=f"{count} of {provider}",
                    why="the machines that they were made of are not alive",
                    done="left alone, they were made on purpose: `gitmachine snapshots` lists and deletes them",
                    ok=False,
                    provider=provider,
                )
            )


def _unknown(provider: str, machine_id: str, label: str, record: MachineRecord | None) -> Collected:
    why = "the journal does not know it"
    if record is not None:
        why = f"the journal has it as {record.state}"
    return Collected(
        kind="unknown",
        label=record.label if record is not None else label,
        why=why,
        done=f"left alone: look at it with the provider {provider!r}",
        ok=False,
        key=label,
        machine_id=machine_id,
        provider=provider,
        session=None if record is None else record.session,
    )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
