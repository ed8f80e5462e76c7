"""Machines and sessions by name: what turns a provider's name or a configuration into objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import ConfigError, MachineLostError, StateError
from gitmachine.machine import Machine
from gitmachine.plugins.host import PluginHost
from gitmachine.plugins.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.config.model import Settings
    from gitmachine.provider import ProviderSpec
    from gitmachine.session import AsyncGitMachine
    from gitmachine.state.places import Places
    from gitmachine.state.records import MachineRecord
    from gitmachine.steps.remains import Remains
    from gitmachine.steps.setup import EventCallback, LifecycleCallback, TokenSource

__all__ = [
    "attach",
    "connect_machine",
    "create_machine",
    "default_host",
    "make_machine",
    "providers",
    "recall_machine",
    "recordable_options",
    "session_arguments",
]

_log = logging.getLogger("gitmachine.recovery")


def default_host() -> PluginHost:
    """Return the host of the installed plugins, as the environment's ``GITMACHINE_…PLUGINS`` say; made on demand."""
    names = ("PLUGINS", "DISABLE_PLUGINS", "STRICT_PLUGINS", "TRACE_HOOKS", "HOOK_TIMEOUT")
    variables = [f"GITMACHINE_{name}" for name in names]
    return _host(tuple((name, os.environ[name]) for name in variables if name in os.environ))


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
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(
            f"expected a mapping of the provider's options, not something of type {type(options).__name__} @ options"
        )
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
    found, started_with, _record = await _recall(machine, host, None, token=keywords.get("token"), report=_log_sentence)
    return found, {**started_with, **keywords}


async def recall_machine(
    selector: str, host: PluginHost, places: Places | None = None
) -> tuple[Machine, dict[str, Any]]:
    """Return a machine that this host's journal knows, and the keyword arguments its session was started with.

    What a process that was killed left half done with it is finished or undone first.

    Args:
        selector: its name, its id, its key, or the unambiguous beginning of one of these two.
        host: the plugins.
        places: where the journal is; None is the usual place.

    Raises:
        StateError: there is none, several fit, it has ended, or it has no machine yet.
        MachineLostError: it is gone; the notes say what this host has of its work.
        ConfigError: an option's variable is not set in this process.
    """
    machine, keywords, _record = await _recall(selector, host, places, token=None, report=_log_sentence)
    return machine, keywords


async def _recall(
    selector: str,
    host: PluginHost,
    places: Places | None,
    *,
    token: TokenSource,
    report: Callable[[str], None],
) -> tuple[Machine, dict[str, Any], MachineRecord]:
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places
    from gitmachine.steps.recovery import recover
    from gitmachine.steps.remains import Remains, session_keywords

    places = places or Places.default()
    async with await Journal.aopen(places) as journal:
        remains = Remains(
            record=await journal.machine(selector), places=places, journal=journal, host=host, token=token
        )
        recovery = await recover(remains)
        for sentence in (*recovery.sentences, *([recovery.problem] if recovery.problem else [])):
            report(sentence)
        record = await journal.machine(remains.record.key)
        if record.ended:
            what = f": {'; '.join(recovery.sentences)}" if recovery.sentences else ""
            raise StateError(f"the machine {record.label} has ended ({record.state}){what}")
        if record.machine_id is None:
            raise StateError(f"the machine {record.label} is still being started, or its start was interrupted")
        keywords = await session_keywords(places, record)
        machine = await _connect(attrs.evolve(remains, record=record))
        return machine, keywords, record


async def _connect(remains: Remains) -> Machine:
    """Connect to a machine; one that is gone is written off, unless its own process still lives to do so."""
    from gitmachine.state.owner import is_alive
    from gitmachine.steps.recovery import bury

    record = remains.record
    machine = await remains.connect()
    if machine is not None:
        return machine
    error = MachineLostError(
        f"the machine {record.label} is gone: {record.provider} has none with the id {record.machine_id}",
        machine_id=record.machine_id,
        provider=record.provider,
        operation="connect",
    )
    if not is_alive(record.owner_pid, record.owner_start):
        for sentence in (await bury(remains)).sentences:
            error.add_note(sentence)
    raise error


def _log_sentence(sentence: str) -> None:
    _log.warning("%s", sentence)


async def attach(
    selector: str,
    *,
    adopt: bool = True,
    token: TokenSource = None,
    plugins: PluginHost | None = None,
    report: Callable[[str], None] | None = None,
    on_start: LifecycleCallback | None = None,
    on_pause: LifecycleCallback | None = None,
    on_resume: LifecycleCallback | None = None,
    on_end: LifecycleCallback | None = None,
    on_event: EventCallback | None = None,
) -> AsyncGitMachine:
    """Act on a machine step by step, from whichever process; `close` the session afterwards.

    Lighter than `AsyncGitMachine.connect`: no event, no look at the repository, no word with the remote, and who
    drives the machine stays who it was. What a killed process left half done is finished or undone first.

    Args:
        selector: its name, its id, its key, or the unambiguous beginning of one of these two.
        adopt: make a machine whose process is gone one that was left on purpose, which `collect_garbage` leaves
            alone; False for whoever only looks.
        token: the credential for the repository, as for a session.
        plugins: the plugins; None loads the installed ones.
        report: called with each sentence about what was found half done; None logs them.
        on_start, on_pause, on_resume, on_end, on_event: as for a session.

    Raises:
        StateError: there is none, several fit, or it has ended.
        MachineLostError: it is gone; the notes say what this host has of its work.
        ConfigError: an option's variable is not set in this process.
    """
    from gitmachine.session import AsyncGitMachine, context_of
    from gitmachine.steps.starting import attach as take_up

    host = plugins or default_host()
    machine, keywords, record = await _recall(selector, host, None, token=token, report=report or _log_sentence)
    gm = AsyncGitMachine(
        machine,
        token=token,
        plugins=host,
        on_start=on_start,
        on_pause=on_pause,
        on_resume=on_resume,
        on_end=on_end,
        on_event=on_event,
        **keywords,
    )
    try:
        await take_up(context_of(gm), record, adopt=adopt)
    except BaseException:
        await machine.close()
        raise
    return gm


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
        for name in ("repository", "token", "session", "auto_commit", "timeout", "identity", "path", "git", "guard")
    }
    keywords["env"] = dict(settings.env)
    keywords["options"] = storable_options(registry.config_class(chosen.provider), chosen.unresolved_options)
    keywords |= {"plugins": host, **given}
    if not keywords["repository"]:
        raise ConfigError("no repository is given: set repository in the configuration, or pass repository=")
    return registry.create(chosen.provider, chosen.options), keywords
