"""Commands and their results: the request, the live process, the result, and what drives one to the other."""

from __future__ import annotations

import os
import re
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

import attrs

from gitmachine.errors import CommandTimeoutError, ConfigError, UnsupportedOperation
from gitmachine.output import DEFAULT_MAX_OUTPUT_BYTES, BytesCallback, OutputBuffer, OutputCallback, TextSink
from gitmachine.pump import KILL_GRACE_SECONDS, Run

__all__ = [
    "DEFAULT_MAX_OUTPUT_BYTES",
    "KILL_GRACE_SECONDS",
    "ByteWriter",
    "BytesCallback",
    "ExecRequest",
    "ExecResult",
    "OutputBuffer",
    "OutputCallback",
    "Process",
    "TerminalSize",
    "TextSink",
    "run_process",
]

_ENV_NAME = re.compile(r"[^=\0]+")


def _text(what: str, value: Any) -> str:
    """Return a string, or a path as one, that an operating system can take as an argument."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise ConfigError(f"{what} must be a string, not {value!r}")
    if "\0" in text:
        raise ConfigError(f"{what} holds a NUL character: {text!r}")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ConfigError(f"{what} holds a character that has no bytes: {text!r}") from error
    return text


def _argv(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | bytes):
        raise ConfigError(f"argv must be a list of strings, not {value!r}: pass shell= for a script")
    if not isinstance(value, Iterable):
        raise ConfigError(f"argv must be a list of strings, not {value!r}")
    argv = tuple(_text(f"argv[{index}]", item) for index, item in enumerate(value))
    if not argv or not argv[0]:
        raise ConfigError("argv is empty: its first string names the program")
    return argv


def _shell(value: Any) -> str | None:
    return None if value is None else _text("shell", value)


def _cwd(value: Any) -> str | None:
    if value is None:
        return None
    text = _text("cwd", value)
    if not text:
        raise ConfigError("cwd is empty: name a directory, or leave it out for the machine's own")
    return text


def _env(value: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"env must be a mapping of variables to values, not something of type {type(value).__name__}")
    for name in value:
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise ConfigError(f"invalid environment variable name {name!r}")
    return {
        _text("an environment variable's name", name): _text(f"the environment variable {name!r}", text)
        for name, text in value.items()
    }


@attrs.frozen
class TerminalSize:
    """The size of a terminal, in characters."""

    columns: int = 80
    rows: int = 24

    def __attrs_post_init__(self) -> None:
        if not (0 < self.columns < 1 << 16 and 0 < self.rows < 1 << 16):
            raise ConfigError(f"a terminal has 1 to 65535 columns and rows, not {self.columns} x {self.rows}")


@attrs.frozen(kw_only=True)
class ExecRequest:
    """One command to run in a machine.

    Exactly one of `argv` and `shell` is given. Strings may hold surrogate escapes for bytes that are not UTF-8.

    Attributes:
        argv: the program and its arguments; no shell reads them.
        shell: a script for ``sh -c``.
        cwd: the working directory; None is the machine's own.
        env: variables added to the machine's environment for this command only.
        timeout: seconds the command may run, paused time excluded; None is no limit.
        stdin: all of its input, as bytes or as an async iterable of bytes; None is an empty input.
        user: the user to run as, where the machine has `Capability.USER`; None is the machine's own.
        on_stdout: called with each piece of standard output, as text.
        on_stderr: called with each piece of standard error, as text.
        on_stdout_bytes: called with each piece of standard output, exact.
        on_stderr_bytes: called with each piece of standard error, exact.
        max_output_bytes: how much of each stream the result keeps.
        open_stdin: for `Machine.spawn`: give the process an input pipe and leave it open.
        terminal: for `Machine.spawn`, where the machine has `Capability.PTY`: run the command on a terminal of this
            size, as its controlling one. All output is on `stdout` and `stderr` ends at once; the input is open, and
            ``TERM`` is the request's or ``xterm-256color``. Closing the input is no more than a promise to write
            nothing: what ends a program's input is the byte 4, as Ctrl-D types it.

    Raises:
        ConfigError: for a request that cannot be run as it stands.
    """

    argv: tuple[str, ...] | None = attrs.field(default=None, converter=_argv)
    shell: str | None = attrs.field(default=None, converter=_shell)
    cwd: str | None = attrs.field(default=None, converter=_cwd)
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_env)
    timeout: float | None = None
    stdin: bytes | AsyncIterable[bytes] | None = attrs.field(default=None, repr=False)
    user: str | None = None
    on_stdout: OutputCallback | None = attrs.field(default=None, repr=False)
    on_stderr: OutputCallback | None = attrs.field(default=None, repr=False)
    on_stdout_bytes: BytesCallback | None = attrs.field(default=None, repr=False)
    on_stderr_bytes: BytesCallback | None = attrs.field(default=None, repr=False)
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    open_stdin: bool = False
    terminal: TerminalSize | None = None

    def __attrs_post_init__(self) -> None:
        if (self.argv is None) == (self.shell is None):
            raise ConfigError("a command needs either argv or shell, not both and not neither")
        if self.timeout is not None and not isinstance(self.timeout, int | float):
            raise ConfigError(f"timeout must be a number of seconds, not {self.timeout!r}")
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout must be more than 0 seconds, not {self.timeout!r}")
        if self.max_output_bytes < 0:
            raise ConfigError(f"max_output_bytes must be 0 or more, not {self.max_output_bytes!r}")
        if isinstance(self.stdin, str):
            raise ConfigError(f"stdin must be bytes, not the string {self.stdin!r}: encode it")
        if self.stdin is not None and not isinstance(self.stdin, AsyncIterable | Iterable):
            raise ConfigError(f"stdin must be bytes or an async iterable of bytes, not {self.stdin!r}")

    @property
    def command(self) -> tuple[str, ...]:
        """The argv to execute: `argv` itself, or ``sh -c`` with the script."""
        return self.argv if self.argv is not None else ("sh", "-c", self.shell or "")


@attrs.frozen(kw_only=True)
class ExecResult:
    """How a command ended. A failing command is a value, not an exception.

    Attributes:
        exit_code: 0 to 255; 128 + N when signal N ended it; 127 when the program does not exist.
        stdout_bytes: its exact standard output, up to the request's limit.
        stderr_bytes: its exact standard error, up to the request's limit.
        duration: seconds.
        timed_out: whether its timeout ended it.
        truncated: whether the middle of a stream was left out.
    """

    exit_code: int
    stdout_bytes: bytes = attrs.field(default=b"", repr=False)
    stderr_bytes: bytes = attrs.field(default=b"", repr=False)
    duration: float = 0.0
    timed_out: bool = False
    truncated: bool = False

    @property
    def stdout(self) -> str:
        """Standard output as UTF-8 text, undecodable bytes replaced."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as UTF-8 text, undecodable bytes replaced."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    @property
    def signal(self) -> str | None:
        """The name of the signal that `exit_code` stands for, such as ``"SIGKILL"``, else None."""
        try:
            return signal.Signals(self.exit_code - 128).name
        except ValueError:
            return None


class ByteWriter(Protocol):
    """The input of a live process."""

    async def write(self, data: bytes) -> None:
        """Write all of data; waits while the process does not read. Raises BrokenPipeError when nobody will."""

    async def close(self) -> None:
        """End the input. Closing twice is harmless."""


class Process(ABC):
    """A command that is running in a machine.

    `stdout` and `stderr` are async iterators of bytes. Each ends when the process has exited and everything that it
    wrote until then was delivered, even while a child that it left behind keeps the pipe open. Whoever holds a
    Process reads both streams to their end, or calls `kill`.
    """

    enforces_timeout: bool = False
    """Whether the machine ends the process at the request's timeout by itself (then `timed_out` becomes True)."""
    timed_out: bool = False

    @property
    @abstractmethod
    def id(self) -> str:
        """The machine's own id of the process, such as its pid."""

    @property
    @abstractmethod
    def stdin(self) -> ByteWriter:
        """The input; usable when the request had `open_stdin`."""

    @property
    @abstractmethod
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives."""

    @property
    @abstractmethod
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""

    @abstractmethod
    async def wait(self) -> int:
        """Wait for the exit code (0 to 255, or 128 + signal); may be called many times.

        Raises:
            MachineLostError: the machine ended, or the connection to it.
        """

    @abstractmethod
    async def kill(self) -> None:
        """Kill the whole process tree; no error when it has ended already."""

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of the terminal that the process runs on.

        Raises:
            UnsupportedOperation: the process has no terminal.
        """
        raise UnsupportedOperation(f"the process has no terminal to make {size.columns} x {size.rows}")


async def run_process(process: Process, request: ExecRequest) -> ExecResult:
    """Drive a live process to its end: feed its input, keep its output, honour its timeout.

    The timeout counts on the machine's clock (`gitmachine.clock.command_clock`), which stands still while the machine
    is paused. Whatever is raised, the process tree was killed first; an error of a callback or of the input comes
    through as it is.

    Raises:
        CommandTimeoutError: the timeout passed; the partial result is attached.
        MachineLostError: from the process, when its machine is gone, or when it cannot be killed.
    """
    run = Run(process, request)
    exit_code, timed_out = await run.finish()
    result = ExecResult(
        exit_code=exit_code,
        stdout_bytes=run.stdout.getvalue(),
        stderr_bytes=run.stderr.getvalue(),
        duration=time.monotonic() - run.began,
        timed_out=timed_out,
        truncated=run.stdout.truncated or run.stderr.truncated,
    )
    if timed_out:
        raise CommandTimeoutError(
            f"the command exceeded its timeout of {request.timeout or 0:g} s and was killed", result=result
        )
    return result
