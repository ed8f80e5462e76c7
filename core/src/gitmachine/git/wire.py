"""Git's protocol between a process in the machine and one on the host, over the spawned process's streams.

Facts of git 2.39 that shaped it: ``fd::0,1`` deadlocks, for git gives its helper other descriptors 0 and 1, hence 3
and 4; protocol version 2 over ``fd::`` hangs after the pack, hence version 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import GitError
from gitmachine.git.host import MAX_STDERR_BYTES, GitCall, GitResult, HostGit, Limits, end_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gitmachine.execution import ByteWriter, Process

__all__ = ["WIRE_CONFIG", "WireEnd", "fetch_from", "serve"]

WIRE_CONFIG = ("protocol.version=0",)
CHUNK_BYTES = 64 * 1024
GRACE_SECONDS = 10.0
"""How long the second end may take to notice that the first one has gone."""

SERVER_GRACE_SECONDS = 2.0


@attrs.frozen(kw_only=True)
class WireEnd:
    """How the process in the machine ended."""

    exit_code: int
    stderr: bytes = attrs.field(repr=False)


class _Meter:
    """Counts the bytes that moved; a transfer is hung when none do."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last = time.monotonic()
        self.inbound = 0

    def moved(self, inbound_bytes: int = 0) -> None:
        self._last = time.monotonic()
        self.inbound += inbound_bytes
        if self.inbound > self._limits.max_pack_bytes:
            raise GitError(f"the machine sent more than {self._limits.max_pack_bytes} bytes: the transfer was ended")

    async def watch(self, work: asyncio.Future[None]) -> None:
        """Wait for `work`; raise `GitError` and cancel it when nothing moves for too long."""
        idle = self._limits.idle_seconds
        while True:
            done, _ = await asyncio.wait([work], timeout=max(0.0, self._last + idle - time.monotonic()))
            if done:
                return work.result()
            if time.monotonic() >= self._last + idle:
                raise GitError(f"the transfer to or from the machine moved nothing for {idle:g} s and was ended")


async def serve(host: HostGit, call: GitCall, process: Process) -> WireEnd:
    """Connect a process in the machine to a git command on the host (``upload-pack`` of the mirror).

    Raises:
        GitError: nothing moved for too long. Both processes are gone afterwards, however it ends.
        MachineLostError: from the process.
    """
    meter = _Meter(host.limits)
    try:
        server = await host.spawn(call)
    except BaseException:
        await _kill(process)
        raise
    try:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        drain = asyncio.ensure_future(_discard(server.stderr))
        try:
            return await _connect(process, server.stdout, _WriterEnd(server.stdin), meter)
        finally:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
    finally:
        await end_process(server)


async def fetch_from(host: HostGit, call: Callable[[int], GitCall], process: Process) -> tuple[GitResult, WireEnd]:
    """Run a git command on the host that talks over one descriptor to a process in the machine (``upload-pack``).

    `call` makes the command for the descriptor's number. Whether anything came is for the caller to look at.

    Raises:
        GitError: nothing moved for too long, too much came, or git could not run.
        MachineLostError: from the process.
    """
    meter = _Meter(host.limits)
    ours, theirs = socket.socketpair()
    theirs_fd = theirs.detach()
    git = asyncio.ensure_future(host.run(call(theirs_fd)))
    reaper = asyncio.ensure_future(_kill_after(git, process))
    try:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            end = await _connect(process, reader, _WriterEnd(writer), meter)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return await git, end
    finally:
        git.cancel()
        reaper.cancel()
        await asyncio.gather(git, reaper, return_exceptions=True)
        ours.close()


async def _connect(process: Process, reader: asyncio.StreamReader, writer: ByteWriter, meter: _Meter) -> WireEnd:
    """Pump both ways until the process in the machine has ended; its stderr is kept."""
    stderr = bytearray()

    async def errors() -> None:
        async for data in process.stderr:
            meter.moved()
            stderr.extend(data)
            del stderr[:-MAX_STDERR_BYTES]

    outward = asyncio.ensure_future(_pump(_chunks(reader), process.stdin, lambda _size: meter.moved()))
    inward = asyncio.ensure_future(_pump(process.stdout, writer, meter.moved))
    machine_side = asyncio.ensure_future(_all(inward, errors(), process.wait()))
    try:
        await meter.watch(machine_side)
        # The machine's end is gone: whatever still wants to write to it has nobody to read.
        await asyncio.wait([outward], timeout=GRACE_SECONDS)
        return WireEnd(exit_code=await process.wait(), stderr=bytes(stderr))
    finally:
        for task in (outward, inward, machine_side):
            task.cancel()
        await asyncio.gather(outward, inward, machine_side, return_exceptions=True)
        await _kill(process)


async def _kill_after(git: asyncio.Future[GitResult], process: Process) -> None:
    """End a server in the machine that goes on although its client on the host has gone."""
    await asyncio.wait([git])
    await asyncio.sleep(SERVER_GRACE_SECONDS)
    await _kill(process)


async def _all(*work: Awaitable[object]) -> None:
    await asyncio.gather(*work)


async def _pump(source: AsyncIterator[bytes], writer: ByteWriter, moved: Callable[[int], None]) -> None:
    """Copy until the source ends or nobody reads any more, then end the writer: the other side must notice."""
    try:
        async for data in source:
            moved(len(data))
            await writer.write(data)
    except (BrokenPipeError, ConnectionResetError):
        # The reader has gone. The source is read to its end, or its writer would wait for ever.
        async for data in source:
            moved(len(data))
    finally:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(CHUNK_BYTES):
        yield data


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK_BYTES):
        pass


async def _kill(process: Process) -> None:
    with contextlib.suppress(Exception):  # the transfer's own outcome matters more than a failing kill
        async with asyncio.timeout(GRACE_SECONDS):
            await process.kill()


class _WriterEnd:
    """An asyncio stream as a `ByteWriter` whose `close` ends only the writing half."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()
        else:
            self._writer.close()
