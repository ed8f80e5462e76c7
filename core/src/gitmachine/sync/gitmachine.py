"""`GitMachine`: `AsyncGitMachine` for blocking code, written out, without any logic of its own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self

from gitmachine._portal import GuestLease, Lease, adapt
from gitmachine.catalog import connect_machine, default_host, session_arguments
from gitmachine.machine import Machine, MachineState
from gitmachine.session import AsyncGitMachine, context_of
from gitmachine.steps import starting
from gitmachine.sync.git_verbs import GitVerbs
from gitmachine.sync.machine_verbs import MachineVerbs
from gitmachine.sync.runtime import LifecycleCallback, Runtime

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.git.model import GitCredential, GitIdentity, GitOptions, GuardOptions
    from gitmachine.outcomes import Receipt
    from gitmachine.plugins.dispatch import HookFailure
    from gitmachine.plugins.host import PluginHost

__all__ = ["GitMachine", "view_of"]


class GitMachine(GitVerbs, Runtime, MachineVerbs):
    """Run commands on a git repository inside an isolated machine, on one branch, and bring the work back as commits.

    Use it with ``with``: entering starts, leaving stops, also after an exception. Safe for many threads at once.

    Args:
        machine: a provider's name, or a machine.
        repository: URL, scp-like address or path of the repository. A credential in it is taken out and kept aside.
        token: the credential for the repository: a string, or a callable that is asked at each use. None asks the
            plugins and then the host's git helpers. It never enters the machine (with the relay transport).
        session: the branch to work on; made when the remote has none of that name. None makes a fresh
            ``gitmachine/<id>``.
        options: the provider's options when `machine` is a name; else only put on record.
        env: variables for every command of `run`.
        identity: whose commits they are.
        auto_commit: whether `pause` and `stop` commit what is uncommitted.
        timeout: seconds each command may run unless it says otherwise; None is no limit.
        git: how the repository travels and how git behaves.
        guard: what is kept out of automatic commits and stopped at a push.
        path: the repository's absolute path in the machine; None is ``repo`` in its working directory.
        name: a name for the machine in listings.
        on_start: called once the branch is checked out; when it raises, start fails and the machine is released.
        on_pause, on_resume: called before the machine is frozen, and when it runs again.
        on_end: called before the machine ends; what it writes is published too.
        on_event: called with each event's name, its data and this object; its errors are kept in `hook_failures`.
        plugins: the plugins to use; None loads the installed ones.

    Callbacks are plain functions; each is called on a thread of its own, but all output of one command
    on one thread, in order. Inside a running event loop, use `AsyncGitMachine`.

    Raises:
        ConfigError: something given is wrong; lists every problem.
        UnknownProviderError: there is no such provider.
    """

    def __init__(
        self,
        machine: Machine | str,
        *,
        repository: str | os.PathLike[str],
        token: str | Callable[[], str | GitCredential | None] | None = None,
        session: str | None = None,
        options: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        identity: GitIdentity | None = None,
        auto_commit: bool = True,
        timeout: float | None = None,
        git: GitOptions | None = None,
        guard: GuardOptions | None = None,
        path: str | None = None,
        name: str | None = None,
        on_start: LifecycleCallback | None = None,
        on_pause: LifecycleCallback | None = None,
        on_resume: LifecycleCallback | None = None,
        on_end: LifecycleCallback | None = None,
        on_event: Callable[[str, dict[str, Any], GitMachine], object] | None = None,
        plugins: PluginHost | None = None,
    ) -> None:
        self._lease = Lease.of(self)
        if isinstance(machine, Machine):
            # What it keeps belongs to the loop, for as long as somebody may hand it to another GitMachine.
            Lease.of(machine).hold()
        self._inner = AsyncGitMachine(
            machine,
            repository=repository,
            token=adapt(token) if callable(token) else token,
            session=session,
            options=options,
            env=env,
            identity=identity,
            auto_commit=auto_commit,
            timeout=timeout,
            git=git,
            guard=guard,
            path=path,
            name=name,
            on_start=self._adapt(on_start),
            on_pause=self._adapt(on_pause),
            on_resume=self._adapt(on_resume),
            on_end=self._adapt(on_end),
            on_event=self._adapt(on_event),
            plugins=plugins,
        )
        context_of(self._inner).views.own = weakref.ref(self)

    @classmethod
    def from_config(
        cls, source: str | Path | Settings | None = None, *, machine: str | None = None, **overrides: Any
    ) -> Self:
        """Make a session from the configuration; nothing starts.

        Args:
            source: the file, or loaded settings; None looks for the file as the command line does.
            machine: the name of one of its ``[machines]``.
            overrides: any keyword of the constructor, and ``provider``; they win.

        Raises:
            ConfigError: the configuration is wrong; lists every problem.
        """
        made, keywords = session_arguments(source, machine, overrides)
        return cls(made, **keywords)

    @classmethod
    def connect(
        cls,
        machine: Machine | str,
        *,
        provider: str | None = None,
        options: Mapping[str, Any] | None = None,
        plugins: PluginHost | None = None,
        **keywords: Any,
    ) -> Self:
        """Take over a machine that runs (or is paused) with the repository in it; emits ``reconnected``.

        Args:
            machine: the machine; its id with `provider`; or its name or id prefix as this host's journal has it.
            provider: the provider's name, when `machine` is its id; `options` are its options.
            keywords: as for the constructor; a machine of the journal has those it was started with.

        Raises:
            MachineError, StateError: there is no such machine, or it does not run.
            CheckoutError: the repository or the session's branch is not there.
        """
        host = plugins or default_host()
        with Lease() as lease:
            found, keywords = lease.call(connect_machine, machine, provider, options, host, keywords)
            gm = cls(found, plugins=host, **keywords)
            gm._lease.call(starting.connect, gm._inner._ctx)
        return gm

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._lease.call(self._inner.__aexit__, kind, error, traceback)

    @property
    def id(self) -> str | None:
        """The machine's id, or None while there is no machine."""
        return self._inner.id

    @property
    def key(self) -> str:
        """The session's key in this host's journal."""
        return self._inner.key

    @property
    def name(self) -> str | None:
        """The name given to the machine."""
        return self._inner.name

    @property
    def state(self) -> MachineState:
        """The machine's state."""
        return self._inner.state

    @property
    def path(self) -> str:
        """The repository's path in the machine."""
        return self._inner.path

    @property
    def session(self) -> str:
        """The session branch."""
        return self._inner.session

    @property
    def repository(self) -> str:
        """The repository's URL, without any credential."""
        return self._inner.repository

    @property
    def machine(self) -> Machine:
        """The machine itself; what is run on it directly is not in `logs`."""
        return self._inner.machine

    @property
    def guard(self) -> GuardOptions:
        """What the guard keeps out of automatic commits and stops at a push."""
        return self._inner.guard

    @property
    def receipt(self) -> Receipt | None:
        """What the last `stop` returned."""
        return self._inner.receipt

    @property
    def hook_failures(self) -> tuple[HookFailure, ...]:
        """The last errors of observers (notify hooks and `on_event`), which stop nothing."""
        return self._inner.hook_failures

    def plugin_options(self, plugin: str) -> Mapping[str, Any]:
        """Return what the configuration has for a plugin, in ``[plugins.options.<name>]``; nothing of it is checked."""
        return self._inner.plugin_options(plugin)

    def start(self) -> None:
        """Start the machine, bring the repository in, check the session branch out, call `on_start`.

        Does nothing while the machine runs. After `stop` it makes a new machine.

        Raises:
            MachineStartError: the machine could not be started.
            CloneError, CheckoutError: the repository could not be brought in, or the branch not be checked out.
            StateError: another machine holds this session; names it.
        """
        self._lease.call(self._inner.start)

    def pause(self) -> None:
        """Commit what is uncommitted, call `on_pause`, copy the work to this host, freeze the machine.

        Does nothing unless the machine runs.

        Raises:
            UnsupportedOperation: the machine cannot pause.
        """
        self._lease.call(self._inner.pause)

    def resume(self) -> None:
        """Continue a paused machine and call `on_resume`. Does nothing unless it is paused."""
        self._lease.call(self._inner.resume)

    def stop(self, *, force: bool = False) -> Receipt | None:
        """Publish the work, verify that the remote has it, end the machine; works from paused.

        With `force` the machine ends also when the work could not be published; it is rescued to this host before.
        Returns the receipt; the last one when the machine is stopped already, None when it never started.

        Raises:
            PushError: the work could not be published; the machine is kept and `rescue` says where the work is.
            StopRefused: `auto_commit` is off and there is unpublished work.
            MachineLostError: the machine died before; its notes say what this host has of the work.
        """
        return self._lease.call(self._inner.stop, force=force)

    def close(self) -> None:
        """Let go of the machine and leave it as it is; `connect` takes it over again."""
        with self._lease:
            self._lease.call(self._inner.close)


def view_of(inner: AsyncGitMachine, loop: asyncio.AbstractEventLoop) -> GitMachine:
    """Return a blocking view of a session that lives on a running loop; for threads other than the loop's."""
    view = object.__new__(GitMachine)
    view._lease = GuestLease(loop)
    view._inner = inner
    return view
