"""The short way for a command whose output nobody watches: one request, one answer, no task.

`run_process` drives any live process; here the two pipes are simply emptied when the command has ended. Only a
command that is still running after some milliseconds has them watched meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import termios
import time
from typing import TYPE_CHECKING

from gitmachine import CommandTimeoutError, ExecResult, MachineLostError
from gitmachine.output import OutputBuffer
from gitmachine.pipes import make_pipes
from gitmachine_local._errors import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine import ExecRequest
    from gitmachine_local._client import Channel

WATCH_SECONDS = 0.003
CHUNK_BYTES = 1 << 16
KILL_SECONDS = 5.0


class Sink:
    """One output pipe and what came out of it."""

    def __init__(self, fd: int, limit_bytes: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.buffer = OutputBuffer(limit_bytes)
        self.ended = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep the pipe from filling up."""
        self._loop = loop
        loop.add_reader(self.fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, CHUNK_BYTES)
        except BlockingIOError:
            return
        if data:
            self.buffer.append(data)
        else:
            self.ended = True
            self._unwatch()

    def _unwatch(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.fd)
        self._loop = None

    def empty(self) -> None:
        """Take what was in the pipe when the command was known to have ended, and not what comes later."""
        left = int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, b"\0" * 4), "little")
        with contextlib.suppress(BlockingIOError):
            while left and not self.ended:
                data = os.read(self.fd, min(left, 1 << 20))
                self.ended = not data
                left -= len(data)
                self.buffer.append(data)
            if not self.ended:
                self.ended = not os.read(self.fd, 1)

    def close(self) -> None:
        """Close the pipe."""
        self._unwatch()
        os.close(self.fd)


async def collect(channel: Channel, request: ExecRequest, arguments: Sequence[bytes]) -> ExecResult:
    """Run a command without input to its end; see `Machine.execute`."""
    began = time.monotonic()
    out, out_w, err, err_w = make_pipes(2)
    sinks = [Sink(fd, request.max_output_bytes) for fd in (out, err)]
    watching: asyncio.TimerHandle | None = None
    try:
        ident = channel.send("run", *arguments, fds=(os.dup(out), out_w, os.dup(err), err_w))
        watching = channel.loop.call_later(WATCH_SECONDS, _watch, channel.loop, sinks)
        try:
            words = await channel.answer(ident, timeout=None)
        except asyncio.CancelledError:
            await _kill(channel, ident)
            raise
        for sink in sinks:
            sink.empty()
        if not all(sink.ended for sink in sinks):
            channel.tell(ident, "drop")
    finally:
        if watching is not None:
            watching.cancel()
        for sink in sinks:
            sink.close()
    result = ExecResult(
        exit_code=int(words[1]) & 255,
        stdout_bytes=sinks[0].buffer.getvalue(),
        stderr_bytes=sinks[1].buffer.getvalue(),
        duration=time.monotonic() - began,
        timed_out=words[2] == b"1",
        truncated=any(sink.buffer.truncated for sink in sinks),
    )
    if result.timed_out:
        raise CommandTimeoutError(
            f"the command exceeded its timeout of {request.timeout or 0:g} s and was killed",
            result=result,
            machine_id=channel.machine_id,
            provider=PROVIDER,
        )
    return result


def _watch(loop: asyncio.AbstractEventLoop, sinks: Sequence[Sink]) -> None:
    for sink in sinks:
        sink.watch(loop)


async def _kill(channel: Channel, ident: int) -> None:
    """Kill the command's tree, and wait a moment for its end."""
    ended = channel.expect(ident)
    channel.tell(ident, "kill")
    with contextlib.suppress(TimeoutError, MachineLostError):
        async with asyncio.timeout(KILL_SECONDS):
            await ended
    channel.tell(ident, "drop")
