"""`GitMachine`: `AsyncGitMachine` for blocking code, written out, without any logic of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from gitmachine._portal import Lease, adapt
from gitmachine.catalog import connect_machine, default_host, session_arguments
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, ExecResult
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Host, Machine, MachineState
from gitmachine.plugins.threads import OrderedThread
from gitmachine.session import AsyncGitMachine
from gitmachine.steps import starting

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.git.model import Changes, Commit, GitCredential, GitIdentity, GitOptions
    from gitmachine.outcomes import LogEntry, PushResult, Receipt
    from gitmachine.plugins.dispatch import HookFailure
    from gitmachine.plugins.host import PluginHost

__all__ = ["GitMachine"]

LifecycleCallback = Callable[["GitMachine"], object]


class GitMachine:
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
        repository: str,
        token: str | Callable[[], str | GitCredential | None] | None = None,
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
            path=path,
            name=name,
            on_start=self._adapt(on_start),
            on_pause=self._adapt(on_pause),
            on_resume=self._adapt(on_resume),
            on_end=self._adapt(on_end),
            on_event=self._adapt(on_event),
            plugins=plugins,
        )

    def _adapt(self, callback: Callable[..., object] | None) -> Callable[..., Any] | None:
        """Have a callback called on a thread, with this object where the asynchronous one is passed: last."""
        return callback and adapt(lambda *args: callback(*args[:-1], self))

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
    def receipt(self) -> Receipt | None:
        """What the last `stop` returned."""
        return self._inner.receipt

    @property
    def hook_failures(self) -> tuple[HookFailure, ...]:
        """The last errors of observers (notify hooks and `on_event`), which stop nothing."""
        return self._inner.hook_failures

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

    def diff(self) -> str:
        """Return every change against HEAD, untracked files included, as text that ``git apply`` takes.

        The index, HEAD and the working tree stay as they are. Works while paused, as all git verbs do.
        """
        return self._lease.call(self._inner.diff)

    def changes(self) -> Changes:
        """Return the changed paths against HEAD, untracked ones included."""
        return self._lease.call(self._inner.changes)

    def commit(self, message: str | None = None) -> str | None:
        """Stage everything and commit it as the session's identity; the repository's own hooks run.

        Without a message the plugins are asked, else it is ``checkpoint``. Returns the commit's sha, or None when
        there was nothing to commit.

        Raises:
            CommitRejected, CommitError: a hook of the repository refused (see `stderr`), or git could not commit.
        """
        return self._lease.call(self._inner.commit, message)

    def push(self) -> PushResult:
        """Publish the session branch's commits, then ask the remote whether it has them.

        Raises:
            PushRejectedError: the remote's branch has other commits, or a rule of its own forbids it.
            PushAuthenticationError, PushUnreachableError: it did not accept the credential, or did not answer.
        """
        return self._lease.call(self._inner.push)

    def pull(self) -> str | None:
        """Bring in what the remote's session branch has, by the policy ``git.pull``; returns the new HEAD.

        Raises:
            PullConflictError: with the files; the working tree is as it was.
        """
        return self._lease.call(self._inner.pull)

    def hash(self) -> str | None:
        """Return HEAD's sha, or None in an empty repository."""
        return self._lease.call(self._inner.hash)

    def log(self, limit: int = 20) -> tuple[Commit, ...]:
        """Return the newest commits of HEAD, newest first."""
        return self._lease.call(self._inner.log, limit)

    def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stdin: bytes | str | Iterable[bytes] | None = None,
        user: str | None = None,
        check: bool = False,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        on_stdout_bytes: Callable[[bytes], object] | None = None,
        on_stderr_bytes: Callable[[bytes], object] | None = None,
        on_exit: Callable[[int], object] | None = None,
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
        with OrderedThread("gitmachine-output") as output, OrderedThread("gitmachine-input") as feed:
            return self._lease.call(
                self._inner.run,
                command,
                cwd=cwd,
                env=env,
                timeout=timeout,
                stdin=stdin if stdin is None or isinstance(stdin, bytes | str) else feed.iterate(stdin),
                user=user,
                check=check,
                on_stdout=adapt(on_stdout, output.call),
                on_stderr=adapt(on_stderr, output.call),
                on_stdout_bytes=adapt(on_stdout_bytes, output.call),
                on_stderr_bytes=adapt(on_stderr_bytes, output.call),
                on_exit=adapt(on_exit, output.call),
                max_output_bytes=max_output_bytes,
            )

    def update(self, env: Mapping[str, str] | None = None, on_update: LifecycleCallback | None = None) -> None:
        """Merge variables into the environment of later commands, then call `on_update`."""
        self._lease.call(self._inner.update, env, self._adapt(on_update))

    def logs(self) -> list[LogEntry]:
        """Return a copy of the history of `run`: command, result, time."""
        return self._inner.logs()

    def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes; a relative path starts at the repository.

        Raises:
            MachineFileError: which is also the built-in error, such as FileNotFoundError.
        """
        return self._lease.call(self._inner.read_file, path, max_bytes=max_bytes)

    def read_text(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> str:
        """Return a UTF-8 file's text, line ends as they are, undecodable bytes replaced."""
        return self._lease.call(self._inner.read_text, path, max_bytes=max_bytes)

    def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically; makes missing parents, keeps the mode of an existing file."""
        self._lease.call(self._inner.write_file, path, data)

    def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return self._lease.call(self._inner.list_files, path)

    def get_host(self, port: int) -> Host:
        """Return where a port of the machine can be reached.

        Raises:
            UnsupportedOperation: the machine has no reachable ports.
        """
        return self._lease.call(self._inner.get_host, port)
