"""Providers by name: who offers them, which one is meant, and how a machine is made by it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

import gitmachine
from gitmachine.errors import (
    ConfigError,
    GitMachineError,
    PluginError,
    PluginLoadError,
    ProviderConflictError,
    UnsupportedOperation,
)
from gitmachine.machine import Machine
from gitmachine.machines.answers import asked
from gitmachine.plugins.dispatch import call_now
from gitmachine.plugins.hints import unknown_provider
from gitmachine.plugins.threads import run_in_thread
from gitmachine.provider import CONTRACT, Check, ProviderSpec, SnapshotInfo, normalize_name

if TYPE_CHECKING:
    from gitmachine.plugins.host import Implementation, PluginHost, PluginReport

__all__ = ["Offer", "Registry"]

_HOOK = "gitmachine_register_providers"


@attrs.frozen
class Offer:
    """A provider and the plugin that offers it."""

    spec: ProviderSpec
    plugin: PluginReport

    @property
    def names(self) -> frozenset[str]:
        """Every folded name it answers to."""
        return frozenset(normalize_name(name) for name in (self.spec.name, *self.spec.aliases))


class Registry:
    """The providers that a host's plugins offer. Nothing of a provider is imported before it is used."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._asked: dict[str, tuple[Offer, ...]] = host.offers

    def providers(self) -> tuple[Offer, ...]:
        """Return everything on offer, sorted by name; conflicts and other contracts included.

        Each plugin is asked once. One that fails to answer is reported as broken and the others go on.
        """
        offers: list[Offer] = []
        for implementation in self._host.implementations(_HOOK):
            name = implementation.plugin
            if name not in self._asked:
                try:
                    self._asked[name] = _offers(implementation)
                except (Exception, SystemExit) as error:  # noqa: BLE001  # any plugin's any error, kept in its report
                    cause = f"{_HOOK} failed: {type(error).__name__}: {error}"
                    self._host.mark_broken(name, error, cause)
                    continue
            offers += self._asked[name]
        self._note_conflicts(offers)
        return tuple(sorted(offers, key=lambda offer: (offer.spec.name, offer.plugin.origin)))

    def _note_conflicts(self, offers: Sequence[Offer]) -> None:
        """Say in the plugins' reports which of their providers nobody can choose because others claim the name."""
        claims: dict[str, list[Offer]] = {}
        for offer in offers:
            for name in offer.names:
                claims.setdefault(name, []).append(offer)
        for name, several in claims.items():
            if len(several) > 1:
                for offer in several:
                    self._host.mark_conflict(offer.plugin.name, str(_conflict(name, several)))

    def resolve(self, name: str) -> ProviderSpec:
        """Return the one provider that answers to a name (case and separators folded, aliases included).

        Raises:
            UnknownProviderError: nobody offers it; says what is close, what is broken and what to install.
            ProviderConflictError: several plugins claim it.
            PluginLoadError: it was written for another version of the machine contract.
        """
        return self._offer(name).spec

    def config_class(self, name: str) -> type[Any]:
        """Import and return the provider's class of options. Raises as `resolve`."""
        offer = self._offer(name)
        cls = _import(offer, offer.spec.config)
        if not (inspect.isclass(cls) and attrs.has(cls)):
            raise _plugin_error(offer, f"names {offer.spec.config!r} as its config, which is not an attrs class")
        return cls

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> Machine:
        """Return a new machine of a provider; it is not started. Raises as `resolve`.

        Args:
            name: the provider.
            options: its options, checked against its config class.

        Raises:
            ConfigError: the options do not fit, every problem at once.
            PluginError: the provider failed to make a machine.
        """
        offer = self._offer(name)
        factory = _import(offer, offer.spec.factory)
        config = self._config(name, options)
        try:
            machine = factory(config)
        except GitMachineError:
            raise
        except (Exception, SystemExit) as error:
            raise _plugin_error(offer, f"failed to make a machine: {type(error).__name__}: {error}") from error
        return _checked(offer, machine)

    async def connect(self, name: str, machine_id: str, options: Mapping[str, Any] | None = None) -> Machine:
        """Return a machine that exists already, by its provider's id. Raises as `create`.

        Raises:
            UnsupportedOperation: the provider cannot connect.
        """
        offer = self._offer(name)
        if offer.spec.connect is None:
            raise UnsupportedOperation(
                f"the provider {offer.spec.name!r} cannot connect to a machine that exists already",
                machine_id=machine_id,
                provider=offer.spec.name,
                operation="connect",
            )
        what = f"connect to {machine_id!r}"
        return _checked(offer, await self._ask(offer, offer.spec.connect, what, machine_id, options=options))

    async def find(self, name: str, label: str, options: Mapping[str, Any] | None = None) -> str | None:
        """Return the id of the machine that carries a label, or None when there is none. Raises as `create`.

        Raises:
            UnsupportedOperation: the provider cannot look for machines.
        """
        offer = self._offer(name)
        found = await self._ask(offer, offer.spec.find, "look for a machine", label, options=options)
        if found is not None and not isinstance(found, str):
            raise _plugin_error(offer, f"found {found!r}, which is not a machine's id")
        return found

    async def inventory(self, name: str, options: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Return the labels of all machines that carry one, by the machines' ids. Raises as `find`."""
        offer = self._offer(name)
        listed = await self._ask(offer, offer.spec.inventory, "list its machines", options=options)
        return dict(listed)

    async def snapshots(
        self, name: str, machine_ids: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> tuple[SnapshotInfo, ...]:
        """Return the snapshots there are, also those of machines that have ended. Raises as `find`."""
        offer = self._offer(name)
        listed = tuple(
            await self._ask(offer, offer.spec.snapshots, "list snapshots", tuple(machine_ids), options=options)
        )
        for info in listed:
            if not isinstance(info, SnapshotInfo):
                raise _plugin_error(offer, f"listed {info!r}, which is not a SnapshotInfo")
        return listed

    async def delete_snapshot(self, name: str, snapshot: str, options: Mapping[str, Any] | None = None) -> None:
        """Remove a snapshot, also of a machine that has ended; no error when it is gone. Raises as `find`."""
        offer = self._offer(name)
        await self._ask(offer, offer.spec.delete_snapshot, "delete snapshots", snapshot, options=options)

    async def _ask(
        self, offer: Offer, reference: str | None, what: str, *arguments: object, options: Mapping[str, Any] | None
    ) -> Any:
        if reference is None:
            raise UnsupportedOperation(
                f"the provider {offer.spec.name!r} cannot {what}", provider=offer.spec.name, operation="find"
            )
        ask = await run_in_thread(_import, offer, reference)
        config = await run_in_thread(self._config, offer.spec.name, options)
        try:
            return await asked(ask, *arguments, config)
        except GitMachineError:
            raise
        except (Exception, SystemExit) as error:
            raise _plugin_error(offer, f"failed to {what}: {type(error).__name__}: {error}") from error

    async def doctor(self, name: str, options: Mapping[str, Any] | None = None) -> tuple[Check, ...]:
        """Return what the provider finds about whether it can work here. Raises as `resolve`.

        Options that do not fit and a check that fails are lines of the answer, not errors.
        """
        offer = self._offer(name)
        if offer.spec.doctor is None:
            return (Check(name=offer.spec.name, ok=True, detail="installed; it has no checks of its own"),)
        try:
            doctor = await run_in_thread(_import, offer, offer.spec.doctor)
            config = await run_in_thread(self._config, name, options)
            return _checks_owed(await asked(doctor, config))
        except ConfigError as error:
            fix = f"say it with -o KEY=VALUE, or under [providers.{offer.spec.name}] in the configuration file"
            return tuple(Check(name="configuration", ok=False, detail=problem, fix=fix) for problem in error.problems)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a provider's check may fail in any way: a finding
            detail = str(error) if isinstance(error, GitMachineError) else f"{type(error).__name__}: {error}"
            return (Check(name=offer.spec.name, ok=False, detail=detail, fix=f"look at {offer.plugin.origin}"),)

    def _config(self, name: str, options: Mapping[str, Any] | None) -> Any:
        from gitmachine.config.structure import structure

        return structure(self.config_class(name), dict(options or {}), path=f"providers.{name}")

    def _offer(self, name: str) -> Offer:
        folded = normalize_name(name)
        offers = self.providers()
        claims = [offer for offer in offers if folded in offer.names]
        if not claims:
            raise unknown_provider(name, {offer.spec.name: offer.names for offer in offers}, self._host.plugins)
        if len(claims) > 1:
            raise _conflict(name, claims)
        offer = claims[0]
        if offer.spec.contract != CONTRACT:
            raise PluginLoadError(
                f"the provider {name!r} of {offer.plugin.origin} was written for version {offer.spec.contract} of the "
                f"machine contract, and gitmachine-core {gitmachine.__version__} speaks version {CONTRACT}: "
                f"upgrade {'gitmachine-core' if offer.spec.contract > CONTRACT else offer.plugin.origin}",
                plugin=offer.plugin.name,
                distribution=offer.plugin.distribution,
                version=offer.plugin.version,
            )
        return offer


def _offers(implementation: Implementation) -> tuple[Offer, ...]:
    answer = call_now(implementation)
    if answer is None:
        return ()
    if isinstance(answer, ProviderSpec) or not isinstance(answer, Sequence):
        raise TypeError(f"expected a list of ProviderSpec, not {answer!r}")
    for spec in answer:
        if not isinstance(spec, ProviderSpec):
            raise TypeError(f"expected a list of ProviderSpec, found {spec!r} in it")
    return tuple(Offer(spec, implementation.report) for spec in dict.fromkeys(answer))


def _import(offer: Offer, reference: str) -> Any:
    """Import what a ``package.module:attribute`` reference names."""
    module, _, attribute = reference.partition(":")
    try:
        if not module or not attribute:
            raise ValueError(f"expected package.module:attribute, not {reference!r}")
        value = import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"the provider {offer.spec.name!r} of {offer.plugin.origin} is broken: cannot import {reference!r}: "
            f"{type(error).__name__}: {error}",
            plugin=offer.plugin.name,
            distribution=offer.plugin.distribution,
            version=offer.plugin.version,
        ) from error
    return value


def _checked(offer: Offer, machine: object) -> Machine:
    if inspect.iscoroutine(machine):
        machine.close()
        raise _plugin_error(offer, "has a coroutine function as its factory: make it a plain one, start() may wait")
    if not isinstance(machine, Machine):
        raise _plugin_error(offer, f"made {machine!r}, which is not a gitmachine.Machine")
    return machine


def _checks_owed(answer: Sequence[Check]) -> tuple[Check, ...]:
    for check in answer:
        if not isinstance(check, Check):
            raise TypeError(f"its doctor returned {check!r}, and owes a list of Check")
    return tuple(answer)


def _plugin_error(offer: Offer, what: str) -> PluginError:
    return PluginError(
        f"the provider {offer.spec.name!r} of {offer.plugin.origin} {what}",
        plugin=offer.plugin.name,
        distribution=offer.plugin.distribution,
        version=offer.plugin.version,
    )


def _conflict(name: str, claims: Sequence[Offer]) -> ProviderConflictError:
    origins = sorted(f"{offer.plugin.origin} (plugin {offer.plugin.name!r})" for offer in claims)
    return ProviderConflictError(
        f"the provider name {name!r} is claimed by {' and by '.join(origins)}: uninstall one of them, or put "
        "its distribution in GITMACHINE_DISABLE_PLUGINS",
        plugin=claims[0].plugin.name,
        distribution=claims[0].plugin.distribution,
        version=claims[0].plugin.version,
    )
