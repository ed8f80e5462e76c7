"""Snapshots, also those of machines that have ended: made on purpose, so they are told of, and removed only by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping  # noqa: TC003  # attrs resolves annotations at run time
from datetime import datetime  # noqa: TC003  # attrs resolves annotations at run time
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.config.machines import restore_options
from gitmachine.errors import GitMachineError, MachineError, StateError, UnsupportedOperation
from gitmachine.plugins.registry import Registry
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep.plain import as_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gitmachine.plugins.host import PluginHost
    from gitmachine.provider import ProviderSpec, SnapshotInfo
    from gitmachine.state.records import MachineRecord

__all__ = ["SavedDisk", "delete_snapshot", "saved_disks", "snapshots", "snapshots_of"]

ASK_SECONDS = 60.0
"""How long a provider may take to list its snapshots, or to remove one."""


@attrs.frozen(kw_only=True)
class SavedDisk:
    """A snapshot that exists, and the machine that it was made of.

    Attributes:
        snapshot: what it is called, and what a new machine can be made from.
        provider: the provider that has it.
        machine_id: the provider's id of the machine, or None where nobody knows.
        key: the session's key, or None when this host's journal does not know the machine (any more).
        machine: what the machine is or was called by, or None.
        state: the machine's state as the journal has it, or None.
        created: when it was made (UTC), where the provider tells.
        size_bytes: what it takes, shared parts included, where the provider tells.
    """

    snapshot: str
    provider: str
    machine_id: str | None = None
    key: str | None = None
    machine: str | None = None
    state: str | None = None
    created: datetime | None = None
    size_bytes: int | None = None
    _options: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        data = as_plain(self)
        del data["_options"]
        return data

    def is_called(self, name: str) -> bool:
        """Tell whether somebody who types a name means this: the whole name, or all of it but for the tag."""
        return name in {self.snapshot, self.snapshot.rpartition(":")[0]}


async def snapshots(
    *,
    provider: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: PluginHost | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[SavedDisk, ...]:
    """Return the snapshots that providers have, of machines that run and of those that have ended.

    Providers are asked where the machines of this host's journal are or were, and where `options`, or none, lead.

    Args:
        provider: only this one's.
        options: the options of providers, by their names, as they are now configured.
        plugins: the plugins; None loads the installed ones.
        report: told of each provider that could not be asked, if anything speaks for its having any.

    Raises:
        StateError: the journal cannot be used.
        UnknownProviderError: there is no such provider.
        UnsupportedOperation: the one that is named cannot list snapshots.
    """
    registry = _registry(plugins)
    if provider is not None and registry.resolve(provider).snapshots is None:
        raise _cannot(registry.resolve(provider).name)
    async with await Journal.aopen(Places.default().ensure()) as journal:
        records = await journal.machines(include_ended=True)
    given: dict[str, Mapping[str, Any]] = {offer.spec.name: {} for offer in registry.providers()} | dict(options or {})
    return await saved_disks(registry, records, provider=provider, options=given, report=report)


async def snapshots_of(machine: str, *, plugins: PluginHost | None = None) -> tuple[SavedDisk, ...]:
    """Return the snapshots that were made of one machine, which may have ended, the oldest first.

    Args:
        machine: its name, its key, its id, or the beginning of one of these two.
        plugins: as for `snapshots`.

    Raises:
        StateError: the journal knows no such machine, or several.
        UnsupportedOperation: its provider can be asked by the machine only.
        MachineError: its provider could not be asked.
    """
    registry, record = _registry(plugins), await _record(machine)
    spec = registry.resolve(record.provider)
    if spec.snapshots is None:
        raise _cannot(spec.name)
    if record.machine_id is None:
        return ()
    infos = await _ask(registry, spec, [record.machine_id], restore_options(record.options))
    return tuple(_saved(spec, info, record, record.options) for info in infos if info.machine_id == record.machine_id)


async def delete_snapshot(
    name: str,
    *,
    machine: str | None = None,
    provider: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: PluginHost | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Remove a snapshot, of a machine that runs or has ended.

    Args:
        name: what it is called, with or without the tag.
        machine: as for `snapshots_of`: then it is removed where that machine is or was, and may be gone already.
        provider, options, plugins, report: as for `snapshots`.

    Raises:
        StateError: there is none of this name, or several; names them.
        MachineError: the provider could not be asked, or refused: a machine may be running on it.
        UnsupportedOperation: as `snapshots_of`.
    """
    registry = _registry(plugins)
    if machine is not None:
        record = await _record(machine)
        if registry.resolve(record.provider).snapshots is None:
            raise _cannot(record.provider)
        await _drop(registry, record.provider, name, restore_options(record.options))
        return
    found = await snapshots(provider=provider, options=options, plugins=plugins, report=report)
    fitting = [one for one in found if one.snapshot == name] or [one for one in found if one.is_called(name)]
    if not fitting:
        listed = ", ".join(one.snapshot for one in found[:20]) or "none"
        raise StateError(f"no snapshot is called {name!r}; there are: {listed}")
    if len(fitting) > 1:
        listed = ", ".join(f"{one.snapshot} of {one.machine or one.machine_id} ({one.provider})" for one in fitting)
        raise StateError(f"{name!r} fits several snapshots: {listed}; name its machine, or its provider")
    (one,) = fitting
    await _drop(registry, one.provider, one.snapshot, restore_options(one._options))


async def saved_disks(
    registry: Registry,
    records: Sequence[MachineRecord],
    *,
    provider: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[SavedDisk, ...]:
    """Ask every provider that can list its snapshots; one that cannot be asked is reported, and no error."""
    found: dict[tuple[str, str, str | None], SavedDisk] = {}
    wanted = None if provider is None else registry.resolve(provider).name
    for offer in registry.providers():
        spec = offer.spec
        if spec.snapshots is None or wanted not in {None, spec.name}:
            continue
        ours = [record for record in records if record.provider == spec.name]
        known = {record.machine_id: record for record in ours if record.machine_id is not None}
        for written in _ways((options or {}).get(spec.name), ours):
            try:
                infos = await _ask(registry, spec, list(known), restore_options(written))
            except GitMachineError as error:
                if report is not None and (written or ours or wanted):
                    report(f"the provider {spec.name!r} could not be asked for snapshots: {error}")
                continue
            for info in infos:
                record = known.get(info.machine_id or "")
                found.setdefault((spec.name, info.name, info.machine_id), _saved(spec, info, record, written))
    return tuple(found.values())


def _ways(configured: Mapping[str, Any] | None, records: Iterable[MachineRecord]) -> list[Mapping[str, Any]]:
    """Return every set of options that leads to the provider, each once."""
    ways = [] if configured is None else [configured]
    ways += [record.options for record in records]
    return list({json.dumps(dict(way), sort_keys=True, default=str): way for way in ways}.values())


def _saved(
    spec: ProviderSpec, info: SnapshotInfo, record: MachineRecord | None, options: Mapping[str, Any]
) -> SavedDisk:
    return SavedDisk(
        snapshot=info.name,
        provider=spec.name,
        machine_id=info.machine_id,
        key=None if record is None else record.key,
        machine=None if record is None else record.label,
        state=None if record is None else record.state,
        created=info.created,
        size_bytes=info.size_bytes,
        options=options,
    )


def _registry(plugins: PluginHost | None) -> Registry:
    from gitmachine.catalog import default_host

    return Registry(plugins or default_host())


async def _record(machine: str) -> MachineRecord:
    async with await Journal.aopen(Places.default().ensure()) as journal:
        return await journal.machine(machine)


async def _ask(
    registry: Registry, spec: ProviderSpec, machine_ids: Sequence[str], options: Mapping[str, Any]
) -> tuple[SnapshotInfo, ...]:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await registry.snapshots(spec.name, machine_ids, options)
    except TimeoutError as error:
        raise _slow(spec.name, "snapshots") from error


async def _drop(registry: Registry, provider: str, name: str, options: Mapping[str, Any]) -> None:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await registry.delete_snapshot(provider, name, options)
    except TimeoutError as error:
        raise _slow(provider, "delete_snapshot") from error


def _slow(provider: str, operation: str) -> MachineError:
    return MachineError(
        f"the provider {provider!r} did not answer within {ASK_SECONDS:g} s", provider=provider, operation=operation
    )


def _cannot(provider: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"the provider {provider!r} cannot list snapshots by itself, only a machine of it that runs can, if at all",
        provider=provider,
        operation="snapshots",
    )
