"""A whole session of a plugin: a real repository, a fake machine, and every call of a hook on record."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from gitmachine._portal import Lease
from gitmachine.errors import GitMachineError, PluginLoadError
from gitmachine.hookspecs import GROUP
from gitmachine.machine import MachineState
from gitmachine.plugins.discovery import find_plugins
from gitmachine.plugins.dispatch import Dispatcher
from gitmachine.plugins.host import PluginStatus
from gitmachine.provider import normalize_name
from gitmachine.sync import GitMachine
from gitmachine.testing.fake import FakeMachine
from gitmachine.testing.home import private_home
from gitmachine.testing.kit.remote import SampleRemote
from gitmachine.testing.trial.recording import HookCall, RecordingHost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gitmachine.execution import ExecResult
    from gitmachine.machine import Machine
    from gitmachine.outcomes import Receipt
    from gitmachine.plugins.discovery import PluginSource
    from gitmachine.plugins.dispatch import HookFailure

__all__ = ["PluginSession", "call_hook", "plugin_session"]

CORE = "core"
"""The distribution part of the core's name: its own plugins take part only when asked for."""


class PluginSession:
    """A session in which plugins are watched.

    Attributes:
        gm: the session; everything that is not here is there.
        machine: its machine; a `FakeMachine` unless another was given.
        remote: the repository, with a few files on its branch ``main``.
        events: each event's name and data, in order.
    """

    def __init__(self, gm: GitMachine, machine: Machine, remote: SampleRemote, host: RecordingHost) -> None:
        self.gm = gm
        self.machine = machine
        self.remote = remote
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._host = host

    @property
    def calls(self) -> tuple[HookCall, ...]:
        """Every call of a hook so far, in the order in which they began."""
        return tuple(self._host.calls)

    @property
    def hooks(self) -> tuple[str, ...]:
        """The names of the hooks that were called, in order."""
        return tuple(call.hook for call in self._host.calls)

    @property
    def failures(self) -> tuple[HookFailure, ...]:
        """The errors of hooks that did not stop the session."""
        return self.gm.hook_failures

    @property
    def receipt(self) -> Receipt | None:
        """What the end of the session returned; None before."""
        return self.gm.receipt

    def calls_of(self, hook: str) -> tuple[HookCall, ...]:
        """Return the calls of one hook; its name may be given without ``gitmachine_``."""
        name = hook if hook.startswith(f"{GROUP}_") else f"{GROUP}_{hook}"
        return tuple(call for call in self._host.calls if call.hook == name)

    def run(self, command: str | Sequence[str], **options: Any) -> ExecResult:
        """Run a command in the repository, as `GitMachine.run`."""
        return self.gm.run(command, **options)

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file of the repository in the machine."""
        self.gm.write_file(path, text)

    def published(self, path: str, branch: str | None = None) -> bytes | None:
        """Return a file as the remote has it, on the session's branch unless another is named; None when it has not."""
        return asyncio.run(self.remote.file(branch or self.gm.session, path))


@contextlib.contextmanager
def plugin_session(
    plugin: object,
    tmp_path: Path,
    *,
    machine: Machine | None = None,
    start: bool = True,
    core: bool = False,
    session: str | None = "trial",
    **options: Any,
) -> Iterator[PluginSession]:
    """Run a session with a plugin, on a machine and a repository that are made for it and removed afterwards.

    The end of the ``with`` block stops the session, as it does for `GitMachine`; what the plugins did at the stop can
    be looked at afterwards. When they refuse the stop, its error is raised and the machine is removed nevertheless.

    Args:
        plugin: a module or an object with hook implementations, the name of an installed one (its entry point's or its
            distribution's), or a list of these. As ever, the one that comes last is called first.
        tmp_path: where the repository is made.
        machine: the machine; None is a new `FakeMachine`.
        start: whether the session is started; else ``session.gm.start()`` does it.
        core: whether the core's own plugins take part.
        session: the branch to work on.
        options: anything else that `GitMachine` takes.

    Raises:
        PluginLoadError: the plugin cannot be used; says why.
    """
    host = _host(plugin if isinstance(plugin, list | tuple) else [plugin], core=core)
    made = machine if machine is not None else FakeMachine()
    remote = SampleRemote(tmp_path / "remote.git")
    events: list[tuple[str, dict[str, Any]]] = []
    with private_home():
        if not remote.path.exists():
            asyncio.run(remote.make())
        gm = GitMachine(made, repository=remote.url, session=session, plugins=host, **_observed(options, events))
        trial = PluginSession(gm, made, remote, host)
        trial.events = events
        with _ended(gm, made):
            if start:
                gm.start()
            yield trial


def _observed(options: dict[str, Any], taken: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the options with a callback that keeps each event, before the author's own."""
    own = options.get("on_event")

    def note(event: str, data: dict[str, Any], gm: GitMachine) -> None:
        taken.append((event, data))
        if own is not None:
            own(event, data, gm)

    return {**options, "on_event": note}


@contextlib.contextmanager
def _ended(gm: GitMachine, machine: Machine) -> Iterator[None]:
    """Stop the session at the end, and if it refuses, its machine."""
    with Lease() as lease:  # the loop on which the machine lives
        try:
            with contextlib.ExitStack() as stack:
                stack.push(gm)
                yield
        finally:
            if machine.state in {MachineState.RUNNING, MachineState.PAUSED}:
                with contextlib.suppress(GitMachineError):  # why the stop failed is what is told
                    gm.close()
                lease.call(machine.stop)


def _host(plugins: Sequence[object], *, core: bool) -> RecordingHost:
    installed = [_find(plugin) for plugin in plugins if isinstance(plugin, str)]
    sources = [source for group in installed for source in group]
    if core:
        sources += [source for source in find_plugins() if source.distribution == f"{GROUP}-{CORE}"]
    host = RecordingHost(entry_points=sources)
    for report in host.plugins:
        if report.status is not PluginStatus.OK:
            raise PluginLoadError(
                f"the plugin {report.name!r} of {report.origin} cannot be used: {report.cause}",
                plugin=report.name,
                distribution=report.distribution,
                version=report.version,
            ) from report.error
    for number, plugin in enumerate(plugins, 1):
        if not isinstance(plugin, str):
            host.register(plugin, _name_of(plugin, number))
    return host


def _find(name: str) -> list[PluginSource]:
    folded = normalize_name(name)
    found = [s for s in find_plugins() if folded in {normalize_name(s.name), normalize_name(s.distribution or "")}]
    if not found:
        raise PluginLoadError(f"no plugin {name!r} is installed: pip install its package first", plugin=name)
    return found


def _name_of(plugin: object, number: int) -> str:
    name = getattr(plugin, "__name__", None)
    return name if isinstance(name, str) else f"{type(plugin).__name__.lower()}-{number}"


def call_hook(plugin: object, hook: str, **values: Any) -> list[Any]:
    """Call one hook of a plugin, without any session, and return what it answered: nothing, or one answer.

    Args:
        plugin: as for `plugin_session`.
        hook: the hook's name, with or without ``gitmachine_``.
        values: all arguments of the hook.

    Raises:
        GitMachineError, HookError: what the implementation raised.
    """
    name = hook if hook.startswith(f"{GROUP}_") else f"{GROUP}_{hook}"
    host = _host(plugin if isinstance(plugin, list | tuple) else [plugin], core=False)
    return [answer.value for answer in asyncio.run(Dispatcher(host).step(name, **values))]
