"""Machines and sessions by name: what turns a provider's name or a configuration into objects."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitmachine.errors import ConfigError, StateError
from gitmachine.machine import Machine
from gitmachine.plugins.host import PluginHost
from gitmachine.plugins.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.config.model import Settings
    from gitmachine.provider import ProviderSpec
    from gitmachine.state.places import Places

__all__ = [
    "connect_machine",
    "create_machine",
    "default_host",
    "make_machine",
    "providers",
    "recall_machine",
    "recordable_options",
    "session_arguments",
]


def default_host() -> PluginHost:
    """Return the host of the installed plugins, as the environment's ``GITMACHINE_…PLUGINS`` say; made on demand."""
    names = ("GITMACHINE_PLUGINS", "GITMACHINE_DISABLE_PLUGINS", "GITMACHINE_STRICT_PLUGINS", "GITMACHINE_TRACE_HOOKS")
    return _host(tuple((name, os.environ[name]) for name in names if name in os.environ))


@lru_cache(maxsize=8)
def _host(environ: tuple[tuple[str, str], ...]) -> PluginHost:
    return PluginHost.default(dict(environ))


def providers() -> tuple[ProviderSpec, ...]:
    """Return the installed providers, sorted by name; none of them is imported."""
    return tuple(offer.spec for offer in Registry(default_host()).providers())


def create_machine(name: str, **options: Any) -> Machine:
    """Return a new machine of the provider with this name; it is not started.

    Raises:
        UnknownProviderError: says what is installed, what is close and what to install.
        ConfigError: the options do not fit the provider; lists every problem.
    """
    return make_machine(name, options, default_host())


def make_machine(machine: Machine | str, options: Mapping[str, Any] | None, host: PluginHost) -> Machine:
    """Return the machine itself, or a new one of the named provider."""
    if isinstance(machine, str):
        return Registry(host).create(machine, options)
    if not isinstance(machine, Machine):
        raise ConfigError(f"expected a provider's name or a Machine, not {machine!r}")
    return machine


def recordable_options(machine: Machine | str, options: Mapping[str, Any] | None, host: PluginHost) -> dict[str, Any]:
    """Return the options that the journal may keep: without secrets that are written out.

    With a Machine object they are only a record, and taken as they are.
    """
    if not options or isinstance(machine, Machine):
        return dict(options or {})
    from gitmachine.config.machines import storable_options
    from gitmachine.config.text import escape

    return storable_options(Registry(host).config_class(machine), escape(options))


async def connect_machine(
    machine: Machine | str,
    provider: str | None,
    options: Mapping[str, Any] | None,
    host: PluginHost,
    keywords: Mapping[str, Any],
) -> tuple[Machine, dict[str, Any]]:
    """Return the machine to take over and the keyword arguments for its session.

    A Machine is taken as it is; an id belongs to the provider; without a provider the text is what this host's journal
    knows the machine by, and `keywords` win over what the session was started with.
    """
    if isinstance(machine, Machine):
        return machine, {"options": options, **keywords}
    if provider is not None:
        return await Registry(host).connect(provider, machine, options), {"options": options, **keywords}
    found, started_with = await recall_machine(machine, host)
    return found, {**started_with, **keywords}


async def recall_machine(
    selector: str, host: PluginHost, places: Places | None = None
) -> tuple[Machine, dict[str, Any]]:
    """Return a machine that this host's journal knows, and the keyword arguments its session was started with.

    Args:
        selector: its name, its id, its key, or the unambiguous beginning of one of these two.
        host: the plugins.
        places: where the journal is; None is the usual place.

    Raises:
        StateError: there is none, several fit, or it has no machine yet.
        ConfigError: an option's variable is not set in this process.
    """
    from gitmachine.config.machines import restore_options
    from gitmachine.state.journal import Journal
    from gitmachine.state.memory import recall
    from gitmachine.state.places import Places

    places = places or Places.default()
    async with await Journal.aopen(places) as journal:
        record = await journal.machine(selector)
    if record.ended:
        raise StateError(f"the machine {record.label} has ended ({record.state})")
    if record.machine_id is None:
        raise StateError(f"the machine {record.label} is still being started, or its start was interrupted")
    memory = await recall(places, record.key)
    options = restore_options(record.options)
    machine = await Registry(host).connect(record.provider, record.machine_id, options)
    keywords: dict[str, Any] = {
        "repository": memory.repository,
        "session": record.session,
        "options": record.options,
        "env": memory.env,
        "identity": memory.identity,
        "auto_commit": memory.auto_commit,
        "timeout": memory.timeout,
        "git": memory.git,
        "path": record.repo_path,
        "name": record.name,
    }
    return machine, keywords


def session_arguments(
    source: str | Path | Settings | None, machine: str | None, overrides: Mapping[str, Any]
) -> tuple[Machine, dict[str, Any]]:
    """Return the machine and the keyword arguments of the session that a configuration describes."""
    from gitmachine.config.installed import plugin_host
    from gitmachine.config.load import load_config
    from gitmachine.config.machines import resolve_machine, storable_options

    given = dict(overrides)
    provider, options = given.pop("provider", None), dict(given.pop("options", None) or {})
    settings = load_config(source) if source is None or isinstance(source, str | Path) else source
    host = given.pop("plugins", None) or plugin_host(settings)
    registry = Registry(host)
    chosen = resolve_machine(settings, provider=provider, machine=machine, options=options)
    keywords: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("repository", "token", "session", "auto_commit", "timeout", "identity", "path", "git")
    }
    keywords["env"] = dict(settings.env)
    keywords["options"] = storable_options(registry.config_class(chosen.provider), chosen.unresolved_options)
    keywords |= {"plugins": host, **given}
    if not keywords["repository"]:
        raise ConfigError("no repository is given: set repository in the configuration, or pass repository=")
    return registry.create(chosen.provider, chosen.options), keywords
