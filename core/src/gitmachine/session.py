"""`AsyncGitMachine`: one branch of a repository in one machine, from start to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, BytesCallback, ExecRequest, ExecResult, OutputCallback
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Host, Machine, MachineState
from gitmachine.steps import commands, pausing, starting, stopping, verbs
from gitmachine.steps.callbacks import call
from gitmachine.steps.context import Context
from gitmachine.steps.setup import EventCallback, LifecycleCallback, TokenSource, make_setup

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.git.model import Changes, Commit, GitIdentity, GitOptions
    from gitmachine.outcomes import LogEntry, PushResult, Receipt
    from gitmachine.plugins.dispatch import HookFailure
    from gitmachine.plugins.host import PluginHost

__all__ = ["AsyncGitMachine"]


class AsyncGitMachine:
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
        repository: str,
        token: TokenSource = None,
        session: str | None = None,
        options: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        identity: GitIdentity | None = None,
        auto_commit: bool = True,
        timeout: float | None = None,
        git: GitOptions | None = None,
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
    def receipt(self) -> Receipt | None:
        """What the last `stop` returned."""
        return self._ctx.receipt

    @property
    def hook_failures(self) -> tuple[HookFailure, ...]:
        """The last errors of observers (notify hooks and `on_event`), which stop nothing."""
        return self._ctx.dispatcher.hook_failures

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

    async def diff(self) -> str:
        """Return every change against HEAD, untracked files included, as text that ``git apply`` takes.

        The index, HEAD and the working tree stay as they are. Works while paused, as all git verbs do.
        """
        return await verbs.diff(self._ctx)

    async def changes(self) -> Changes:
        """Return the changed paths against HEAD, untracked ones included."""
        return await verbs.changes(self._ctx)

    async def commit(self, message: str | None = None) -> str | None:
        """Stage everything and commit it as the session's identity; the repository's own hooks run.

        Without a message the plugins are asked, else it is ``checkpoint``. Returns the commit's sha, or None when
        there was nothing to commit.

        Raises:
            CommitRejected, CommitError: a hook of the repository refused (see `stderr`), or git could not commit.
        """
        return await verbs.commit(self._ctx, message)

    async def push(self) -> PushResult:
        """Publish the session branch's commits, then ask the remote whether it has them.

        Raises:
            PushRejectedError: the remote's branch has other commits, or a rule of its own forbids it.
            PushAuthenticationError, PushUnreachableError: it did not accept the credential, or did not answer.
        """
        return await verbs.push(self._ctx)

    async def pull(self) -> str | None:
        """Bring in what the remote's session branch has, by the policy ``git.pull``; returns the new HEAD.

        Raises:
            PullConflictError: with the files; the working tree is as it was.
        """
        return await verbs.pull(self._ctx)

    async def hash(self) -> str | None:
        """Return HEAD's sha, or None in an empty repository."""
        return await verbs.head(self._ctx)

    async def log(self, limit: int = 20) -> tuple[Commit, ...]:
        """Return the newest commits of HEAD, newest first."""
        return await verbs.log(self._ctx, limit)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stdin: bytes | str | AsyncIterable[bytes] | None = None,
        user: str | None = None,
        check: bool = False,
        on_stdout: OutputCallback | None = None,
        on_stderr: OutputCallback | None = None,
        on_stdout_bytes: BytesCallback | None = None,
        on_stderr_bytes: BytesCallback | None = None,
        on_exit: Callable[[int], Awaitable[None] | None] | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
    ) -> ExecResult:
        """Run a command in the repository; a failing one is a result, not an exception.

        Args:
            command: a string is a script for ``sh -c``; a list is a program and its arguments, read by no shell.
            cwd: the working directory, relative to the repository; None is the repository.
            env: variables for this command, added to the session's.
            timeout: seconds it may run; None is the session's default.
            stdin: its whole input; None is empty.
            user: the user to run as, where the machine can.
            check: raise when the exit code is not 0.
            on_stdout, on_stderr: called with each piece of output as it arrives, as text.
            on_stdout_bytes, on_stderr_bytes: the same with the exact bytes.
            on_exit: called with the exit code.
            max_output_bytes: how much of each stream the result keeps.

        Raises:
            CommandTimeoutError: it was killed with all its children; `result` has the output so far.
            CommandFailedError: `check` and the exit code is not 0.
            InvalidStateError: the machine does not run; says what to call first.
            MachineLostError: the machine is gone.
        """
        script = isinstance(command, str)
        request = ExecRequest(
            argv=None if script else command,
            shell=command if script else None,
            cwd=cwd,
            env=env or {},
            timeout=timeout if timeout is not None else self._ctx.setup.timeout,
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
            user=user,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_stdout_bytes=on_stdout_bytes,
            on_stderr_bytes=on_stderr_bytes,
            max_output_bytes=max_output_bytes,
        )
        return await commands.run(self._ctx, request, check=check, on_exit=on_exit)

    async def update(self, env: Mapping[str, str] | None = None, on_update: LifecycleCallback | None = None) -> None:
        """Merge variables into the environment of later commands, then call `on_update`."""
        await commands.merge_env(self._ctx, env or {})
        await call(on_update, self)

    def logs(self) -> list[LogEntry]:
        """Return a copy of the history of `run`: command, result, time."""
        return list(self._ctx.log)

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes; a relative path starts at the repository.

        Raises:
            MachineFileError: which is also the built-in error, such as FileNotFoundError.
        """
        return await commands.read_file(self._ctx, path, max_bytes)

    async def read_text(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> str:
        """Return a UTF-8 file's text, line ends as they are, undecodable bytes replaced."""
        return (await self.read_file(path, max_bytes=max_bytes)).decode("utf-8", "replace")

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically; makes missing parents, keeps the mode of an existing file."""
        await commands.write_file(self._ctx, path, data)

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return await commands.list_files(self._ctx, path)

    async def get_host(self, port: int) -> Host:
        """Return where a port of the machine can be reached.

        Raises:
            UnsupportedOperation: the machine has no reachable ports.
        """
        return await commands.get_host(self._ctx, port)
