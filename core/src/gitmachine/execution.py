"""Commands and their results: the request, the live process, the result, and the pump between them."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import inspect
import re
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from gitmachine.errors import CommandTimeoutError, ConfigError

__all__ = [
    "DEFAULT_MAX_OUTPUT_BYTES",
    "ByteWriter",
    "ExecRequest",
    "ExecResult",
    "OutputBuffer",
    "OutputCallback",
    "Process",
    "TextSink",
    "run_process",
]

DEFAULT_MAX_OUTPUT_BYTES = 10 * 1024 * 1024
"""How much of each stream a result keeps: the first and the last half of this many bytes."""

KILL_GRACE_SECONDS = 10.0
"""How long a killed process tree may take to report its end."""

OutputCallback = Callable[[str], Awaitable[None] | None]
"""Called with decoded text as output arrives; may be a plain function or a coroutine function."""

_ENV_NAME = re.compile(r"[^=\0]+")


def _argv(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        raise ConfigError(f"argv must be a list of strings, not the string {value!r}: pass shell= for a script")
    return tuple(value)


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
        max_output_bytes: how much of each stream the result keeps.
        open_stdin: for `Machine.spawn`: give the process an input pipe and leave it open.

    Raises:
        ConfigError: for a request that cannot be run as it stands.
    """

    argv: tuple[str, ...] | None = attrs.field(default=None, converter=_argv)
    shell: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    timeout: float | None = None
    stdin: bytes | AsyncIterable[bytes] | None = attrs.field(default=None, repr=False)
    user: str | None = None
    on_stdout: OutputCallback | None = attrs.field(default=None, repr=False)
    on_stderr: OutputCallback | None = attrs.field(default=None, repr=False)
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    open_stdin: bool = False

    def __attrs_post_init__(self) -> None:
        if (self.argv is None) == (self.shell is None):
            raise ConfigError("a command needs either argv or shell, not both and not neither")
        if self.argv is not None and (not self.argv or not self.argv[0]):
            raise ConfigError("argv is empty: its first string names the program")
        for text in (*(self.argv or ()), self.shell or "", self.cwd or ""):
            if "\0" in text:
                raise ConfigError(f"a command cannot hold a NUL character: {text!r}")
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name):
                raise ConfigError(f"invalid environment variable name {name!r}")
            if "\0" in value:
                raise ConfigError(f"the environment variable {name!r} holds a NUL character")
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigError(f"timeout must be more than 0 seconds, not {self.timeout!r}")

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


class OutputBuffer:
    """Keeps the first and the last part of a stream in bounded memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._head_limit = limit_bytes // 2
        self._tail_limit = limit_bytes - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.truncated = False

    def append(self, data: bytes) -> None:
        """Add bytes; the middle of what exceeds the limit is forgotten."""
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail += data
        if len(self._tail) > 2 * self._tail_limit:
            self._trim()

    def _trim(self) -> None:
        excess = len(self._tail) - self._tail_limit
        if excess > 0:
            del self._tail[:excess]
            self.truncated = True

    def getvalue(self) -> bytes:
        """Return what was kept."""
        self._trim()
        return bytes(self._head + self._tail)


class TextSink:
    """Decodes bytes to text across chunk borders and hands it to a callback, in order."""

    def __init__(self, callback: OutputCallback) -> None:
        self._callback = callback
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def write(self, data: bytes, *, final: bool = False) -> None:
        """Decode data and call back with the text that is complete; `final` flushes a cut-off sequence."""
        text = self._decoder.decode(data, final)
        if text:
            answer = self._callback(text)
            if inspect.isawaitable(answer):
                await answer


async def _pump(stream: AsyncIterator[bytes], buffer: OutputBuffer, callback: OutputCallback | None) -> None:
    sink = TextSink(callback) if callback is not None else None
    async for data in stream:
        buffer.append(data)
        if sink is not None:
            await sink.write(data)
    if sink is not None:
        await sink.write(b"", final=True)


async def _feed(writer: ByteWriter, source: bytes | AsyncIterable[bytes] | None) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if isinstance(source, bytes):
            await writer.write(source)
        elif source is not None:
            async for chunk in source:
                await writer.write(chunk)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await writer.close()


async def run_process(process: Process, request: ExecRequest) -> ExecResult:
    """Drive a live process to its end: feed its input, keep its output, honour its timeout.

    A timeout and a cancellation kill the process tree before they are raised.

    Raises:
        CommandTimeoutError: the timeout passed; the partial result is attached.
        MachineLostError: from the process, when its machine is gone.
    """
    began = time.monotonic()
    out, err = OutputBuffer(request.max_output_bytes), OutputBuffer(request.max_output_bytes)

    def result(exit_code: int, *, timed_out: bool = False) -> ExecResult:
        stdout, stderr = out.getvalue(), err.getvalue()
        return ExecResult(
            exit_code=exit_code,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
            duration=time.monotonic() - began,
            timed_out=timed_out,
            truncated=out.truncated or err.truncated,
        )

    pumps = [
        asyncio.ensure_future(_pump(process.stdout, out, request.on_stdout)),
        asyncio.ensure_future(_pump(process.stderr, err, request.on_stderr)),
    ]
    feeder = asyncio.ensure_future(_feed(process.stdin, request.stdin)) if request.open_stdin else None
    limit = None if process.enforces_timeout else request.timeout
    try:
        async with asyncio.timeout(limit) as deadline:
            await asyncio.gather(*pumps)
            exit_code = await process.wait()
        timed_out = process.timed_out
    except BaseException as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            timed_out = True
            exit_code = await _kill(process, pumps)
        else:
            # A callback that raised, a lost machine, a cancellation: the command must not outlive it.
            await asyncio.shield(_kill(process, pumps))
            raise
    finally:
        for task in (*pumps, *([feeder] if feeder is not None else [])):
            task.cancel()
        await asyncio.gather(*pumps, *([feeder] if feeder is not None else []), return_exceptions=True)
    if timed_out:
        partial = result(exit_code, timed_out=True)
        raise CommandTimeoutError(
            f"the command exceeded its timeout of {request.timeout:g} s and was killed", result=partial
        )
    return result(exit_code)


async def _kill(process: Process, pumps: Sequence[asyncio.Future[None]]) -> int:
    """Kill the tree and wait, within a deadline, for the rest of its output and its exit code."""
    with contextlib.suppress(Exception):  # the original error matters more than a failing kill
        async with asyncio.timeout(KILL_GRACE_SECONDS):
            await process.kill()
            await asyncio.gather(*pumps, return_exceptions=True)
            return await process.wait()
    return 128 + signal.SIGKILL
