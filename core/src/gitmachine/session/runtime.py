"""Commands and files of `AsyncGitMachine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.archives.model import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, BytesCallback, ExecRequest, ExecResult, OutputCallback
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Host
from gitmachine.session.run import AsyncRun
from gitmachine.steps import commands, runs
from gitmachine.steps.callbacks import call

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence

    from gitmachine.archives import Transfer
    from gitmachine.outcomes import LogEntry, RunInfo
    from gitmachine.steps.context import Context
    from gitmachine.steps.setup import LifecycleCallback

__all__ = ["AsyncRuntime"]


class AsyncRuntime:
    """The commands and files half of `AsyncGitMachine`."""

    _ctx: Context

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

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | str | None = None,
        name: str | None = None,
    ) -> AsyncRun:
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
        script = isinstance(command, str)
        request = ExecRequest(
            argv=None if script else command,
            shell=command if script else None,
            cwd=cwd,
            env=env or {},
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
        )
        return AsyncRun(self._ctx, await runs.spawn(self._ctx, request, name))

    async def runs(self) -> tuple[RunInfo, ...]:
        """Return the detached runs of the machine, whoever started them, the oldest first."""
        return await runs.list_runs(self._ctx)

    async def attach(self, run_id: str) -> AsyncRun:
        """Return a detached run by its id, the only beginning of it, or its name (the newest of that name).

        Raises:
            StateError: there is no such run; names those that there are.
        """
        return AsyncRun(self._ctx, await runs.attach(self._ctx, run_id))

    async def update(self, env: Mapping[str, str] | None = None, on_update: LifecycleCallback | None = None) -> None:
        """Merge variables into the environment of later commands, then call `on_update`."""
        await commands.merge_env(self._ctx, env or {})
        await call(on_update, self._ctx.gm)

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

    async def upload(self, source: str | os.PathLike[str], target: str) -> Transfer:
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
        return await commands.upload(self._ctx, Path(source), target)

    async def download(
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
        return await commands.download(self._ctx, source, Path(target), **limits)

    async def get_host(self, port: int) -> Host:
        """Return where a port of the machine can be reached.

        Raises:
            UnsupportedOperation: the machine has no reachable ports.
        """
        return await commands.get_host(self._ctx, port)
