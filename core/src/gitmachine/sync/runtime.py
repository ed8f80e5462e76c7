"""Commands and files of `GitMachine`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gitmachine._portal import Lease, adapt
from gitmachine.archives.model import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, ExecResult
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Host
from gitmachine.plugins.threads import OrderedThread
from gitmachine.sync.run import Run

if TYPE_CHECKING:
    import os

    from gitmachine.archives import Transfer
    from gitmachine.outcomes import LogEntry, RunInfo
    from gitmachine.session import AsyncGitMachine
    from gitmachine.session.run import AsyncRun
    from gitmachine.sync.gitmachine import GitMachine

__all__ = ["Runtime"]

LifecycleCallback = Callable[["GitMachine"], object]
"""Called with the session; what it returns is not looked at."""


class Runtime:
    """The commands and files half of `GitMachine`."""

    _lease: Lease
    _inner: AsyncGitMachine

    def _adapt(self, callback: Callable[..., object] | None) -> Callable[..., Any] | None:
        """Have a callback called on a thread, with this object where the asynchronous one is passed: last."""
        if not callable(callback):
            return callback  # nothing; or a mistake, which the session tells
        return adapt(lambda *args: callback(*args[:-1], self))

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

    def spawn(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | str | None = None,
        name: str | None = None,
    ) -> Run:
        """Start a command that goes on without this process, and return once it is under way.

        It lives until it ends, `kill`, or the machine's stop, which gives it 10 seconds to end by itself. It is paused
        and resumed with the machine.

        Args:
            command: a string is a script for ``sh -c``; a list is a program and its arguments, read by no shell.
            cwd: the working directory, relative to the repository; None is the repository.
            env: variables for this command, added to the session's; names that a shell can pass on.
            stdin: its whole input; None is empty.
            name: what to call it in `runs` and `attach`.

        Raises:
            MachineFileNotFoundError: there is no such working directory; nothing was started.
            InvalidStateError: the machine does not run; says what to call first.
        """
        made = self._lease.call(self._inner.spawn, command, cwd=cwd, env=env, stdin=stdin, name=name)
        return self._run(made)

    def runs(self) -> tuple[RunInfo, ...]:
        """Return the detached runs of the machine, whoever started them, the oldest first."""
        return self._lease.call(self._inner.runs)

    def attach(self, run_id: str) -> Run:
        """Return a detached run by its id, the only beginning of it, or its name (the newest of that name).

        Raises:
            StateError: there is no such run; names those that there are.
        """
        return self._run(self._lease.call(self._inner.attach, run_id))

    def _run(self, made: AsyncRun) -> Run:
        return Run(self._inner._ctx, self._lease, made)  # the asynchronous half of this very class

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

    def upload(self, source: str | os.PathLike[str], target: str) -> Transfer:
        """Copy a file, a symbolic link or a directory of this host into the machine; `target` is what it becomes.

        Missing parents are made; a directory is merged into one that is there, and nothing is removed. Modes, links and
        times (to the second) are kept. It takes as long as it takes: only one that does not go on is given up.

        Args:
            source: on this host.
            target: in the machine; a relative path starts at the repository.

        Raises:
            LocalFileError: `source` cannot be read; also the built-in error, such as FileNotFoundError.
            MachineFileError: the machine cannot write it; also the built-in error, such as IsADirectoryError.
        """
        return self._lease.call(self._inner.upload, source, target)

    def download(
        self,
        source: str,
        target: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        """Copy a file, a symbolic link or a directory of the machine to this host; `target` is what it becomes.

        As `upload`, the other way. Nothing is ever written outside the target or through a link, whatever the machine
        sends; when it fails, a target that was new is removed again.

        Args:
            source: in the machine; a relative path starts at the repository. One that ends in a slash is the directory
                that a link leads to.
            target: on this host.
            max_bytes: how much content is accepted.
            max_entries: how many files, directories and links are accepted.

        Raises:
            MachineFileError: the machine cannot read it, or sent what is refused (EBADMSG, EFBIG).
            LocalFileError: this host cannot write it; also the built-in error, such as NotADirectoryError.
        """
        limits = {"max_bytes": max_bytes, "max_entries": max_entries}
        return self._lease.call(self._inner.download, source, target, **limits)

    def get_host(self, port: int) -> Host:
        """Return where a port of the machine can be reached.

        Raises:
            UnsupportedOperation: the machine has no reachable ports.
        """
        return self._lease.call(self._inner.get_host, port)
