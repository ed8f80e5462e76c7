"""`AsyncGitMachine`: one branch of a repository in one machine, from start to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from gitmachine.session.git_verbs import AsyncGitVerbs
from gitmachine.session.machine_verbs import AsyncMachineVerbs
from gitmachine.session.runtime import AsyncRuntime
from gitmachine.steps import pausing, starting, stopping
from gitmachine.steps.context import Context
from gitmachine.steps.setup import EventCallback, LifecycleCallback, TokenSource, make_setup

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.git.model import GitIdentity, GitOptions, GuardOptions
    from gitmachine.machine import Machine, MachineState
    from gitmachine.outcomes import Receipt
    from gitmachine.plugins.dispatch import HookFailure
    from gitmachine.plugins.host import PluginHost

__all__ = ["AsyncGitMachine", "context_of"]


class AsyncGitMachine(AsyncGitVerbs, AsyncRuntime, AsyncMachineVerbs):
    """Run commands on a git repository inside an isolated machine, on one branch, and bring the work back as commits.

    Use it with ``async with``: entering starts, leaving stops, also after an exception. Safe for many tasks at once.

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

    Callbacks may be ``def`` or ``async def``.

    Raises:
        ConfigError: something given is wrong; lists every problem.
        UnknownProviderError: there is no such provider.
    """

    def __init__(
        self,
        machine: Machine | str,
        *,
        repository: str | os.PathLike[str],
        token: TokenSource = None,
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
        on_event: EventCallback | None = None,
        plugins: PluginHost | None = None,
    ) -> None:
        from gitmachine.catalog import default_host, make_machine, recordable_options

        setup = make_setup(
            repository=repository,
            token=token,
            session=session,
            env=env,
            identity=identity,
            auto_commit=auto_commit,
            timeout=timeout,
            git=git,
            guard=guard,
            path=path,
            name=name,
            on_start=on_start,
            on_pause=on_pause,
            on_resume=on_resume,
            on_end=on_end,
            on_event=on_event,
        )
        host = plugins or default_host()
        self._ctx = Context(
            setup=setup,
            machine=make_machine(machine, options, host),
            host=host,
            gm=self,
            options=recordable_options(machine, options, host),
        )

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
        from gitmachine.catalog import session_arguments

        made, keywords = session_arguments(source, machine, overrides)
        return cls(made, **keywords)

    @classmethod
    async def connect(
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
        from gitmachine.catalog import connect_machine, default_host

        host = plugins or default_host()
        found, keywords = await connect_machine(machine, provider, options, host, keywords)
        gm = cls(found, plugins=host, **keywords)
        await starting.connect(gm._ctx)  # a constructor of this class
        return gm

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            await self.stop()
        except BaseException as problem:
            if error is None:
                raise
            error.add_note(f"stop() failed too: {type(problem).__name__}: {problem}")

    @property
    def id(self) -> str | None:
        """The machine's id, or None while there is no machine."""
        return self._ctx.machine.id

    @property
    def key(self) -> str:
        """The session's key in this host's journal."""
        return self._ctx.key

    @property
    def name(self) -> str | None:
        """The name given to the machine."""
        return self._ctx.setup.name

    @property
    def state(self) -> MachineState:
        """The machine's state."""
        return self._ctx.state

    @property
    def path(self) -> str:
        """The repository's path in the machine."""
        return self._ctx.path

    @property
    def session(self) -> str:
        """The session branch."""
        return self._ctx.branch

    @property
    def repository(self) -> str:
        """The repository's URL, without any credential."""
        return self._ctx.setup.repository.display

    @property
    def machine(self) -> Machine:
        """The machine itself; what is run on it directly is not in `logs`."""
        return self._ctx.machine

    @property
    def guard(self) -> GuardOptions:
        """What the guard keeps out of automatic commits and stops at a push."""
        return self._ctx.setup.guard

    @property
    def receipt(self) -> Receipt | None:
        """What the last `stop` returned."""
        return self._ctx.receipt

    @property
    def hook_failures(self) -> tuple[HookFailure, ...]:
        """The last errors of observers (notify hooks and `on_event`), which stop nothing."""
        return self._ctx.dispatcher.hook_failures

    def plugin_options(self, plugin: str) -> Mapping[str, Any]:
        """Return what the configuration has for a plugin, in ``[plugins.options.<name>]``; nothing of it is checked."""
        return self._ctx.dispatcher.host.options_of(plugin)

    async def start(self) -> None:
        """Start the machine, bring the repository in, check the session branch out, call `on_start`.

        Does nothing while the machine runs. After `stop` it makes a new machine.

        Raises:
            MachineStartError: the machine could not be started.
            CloneError, CheckoutError: the repository could not be brought in, or the branch not be checked out.
            StateError: another machine holds this session; names it.
        """
        await starting.start(self._ctx)

    async def pause(self) -> None:
        """Commit what is uncommitted, call `on_pause`, copy the work to this host, freeze the machine.

        Does nothing unless the machine runs.

        Raises:
            UnsupportedOperation: the machine cannot pause.
        """
        await pausing.pause(self._ctx)

    async def resume(self) -> None:
        """Continue a paused machine and call `on_resume`. Does nothing unless it is paused."""
        await pausing.resume(self._ctx)

    async def stop(self, *, force: bool = False) -> Receipt | None:
        """Publish the work, verify that the remote has it, end the machine; works from paused.

        With `force` the machine ends also when the work could not be published; it is rescued to this host before.
        Returns the receipt; the last one when the machine is stopped already, None when it never started.

        Raises:
            PushError: the work could not be published; the machine is kept and `rescue` says where the work is.
            StopRefused: `auto_commit` is off and there is unpublished work.
            MachineLostError: the machine died before; its notes say what this host has of the work.
        """
        return await stopping.stop(self._ctx, force=force)

    async def close(self) -> None:
        """Let go of the machine and leave it as it is; `connect` takes it over again."""
        await pausing.close(self._ctx)


def context_of(gm: AsyncGitMachine) -> Context:
    """Return the parts of a session, for what looks after sessions from outside."""
    return gm._ctx
