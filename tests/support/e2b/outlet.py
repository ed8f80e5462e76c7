"""The last step of an answer to its client, where a stream's frames can be damaged."""

from __future__ import annotations

import asyncio
import json
import struct

from aiohttp import web

from support.e2b.envd.connect import END, envelope
from support.e2b.faults import Kind, Struck

_SPLIT_BYTES = 4096
_ODD_BYTES = 1021
_MIDWAY: tuple[Kind, ...] = ("cut", "silent", "eos-error")


class CutError(Exception):
    """The connection is to be closed here."""


class OverError(Exception):
    """The answer is to end here."""


class Outlet:
    """Takes the chunks of an answer and sends what the faults leave of them."""

    def __init__(self, response: web.StreamResponse, struck: Struck, *, framed: bool) -> None:
        self._response = response
        self._struck = struck
        self._framed = framed
        self._buffer = bytearray()
        self._frames = 0
        self._bytes = 0
        self._held = bytearray()
        self._flusher: asyncio.Task[None] | None = None

    async def take(self, chunk: bytes) -> None:
        """Take a chunk as it came.

        Raises:
            CutError: a fault closes the connection after this.
            OverError: a fault has ended the stream.
        """
        if not self._framed:
            await self._plain(chunk)
            return
        self._buffer += chunk
        while len(self._buffer) >= 5:
            flags, length = struct.unpack_from(">BI", self._buffer)
            if len(self._buffer) < 5 + length:
                return
            payload = bytes(self._buffer[5 : 5 + length])
            del self._buffer[: 5 + length]
            await self._frame(flags, payload)

    async def finish(self) -> None:
        """Send what is still held back."""
        if self._flusher is not None:
            self._flusher.cancel()
            await self._flush()

    async def _plain(self, chunk: bytes) -> None:
        cut = self._struck.first("cut", midway=True)
        if cut is not None and cut.nbytes is not None and self._bytes + len(chunk) >= cut.nbytes:
            await self._response.write(chunk[: cut.nbytes - self._bytes])
            raise CutError
        self._bytes += len(chunk)
        await self._response.write(chunk)

    async def _frame(self, flags: int, payload: bytes) -> None:
        if self._frames == 0:
            await self._midway()
        if (delay := self._struck.any("delay")) is not None and delay.each:
            await asyncio.sleep(delay.seconds)
        event = _kind(payload)
        if (event == "keepalive" and self._struck.any("no-keepalive")) or (
            event == "end" and self._struck.any("no-end")
        ):
            return
        if flags & END:
            if self._struck.any("no-eos"):
                return
            if (fault := self._struck.first("eos-error")) is not None:
                payload = _error(fault.code, fault.message)
        self._frames += 1
        await self._send(envelope(flags, payload))
        if self._struck.any("unknown") and not flags & END:
            await self._send(envelope(0, b'{"event":{"futureEvent":{"value":1}},"futureField":[1,2]}'))
        await self._midway()

    async def _midway(self) -> None:
        for kind in _MIDWAY:
            fault = self._struck.first(kind, midway=True)
            if fault is None or fault.frames is None or self._frames != fault.frames:
                continue
            await self.finish()
            if kind == "cut":
                raise CutError
            if kind == "silent":
                await asyncio.get_running_loop().create_future()
            await self._response.write(envelope(END, _error(fault.code, fault.message)))
            raise OverError

    async def _send(self, data: bytes) -> None:
        if (coalesce := self._struck.any("coalesce")) is not None:
            self._held += data
            if self._flusher is None or self._flusher.done():
                self._flusher = asyncio.ensure_future(self._later(coalesce.seconds))
        elif (split := self._struck.any("split")) is not None:
            await self._pieces(data, split.nbytes or 1)
        else:
            await self._response.write(data)

    async def _pieces(self, data: bytes, size: int) -> None:
        head, rest = data[:_SPLIT_BYTES], data[_SPLIT_BYTES:]
        for start in range(0, len(head), size):
            await self._response.write(head[start : start + size])
            if start < 16:
                await asyncio.sleep(0)
        for start in range(0, len(rest), _ODD_BYTES):
            await self._response.write(rest[start : start + _ODD_BYTES])

    async def _later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._flush()

    async def _flush(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        if held:
            await self._response.write(held)


def _kind(payload: bytes) -> str | None:
    try:
        event = json.loads(payload).get("event", {})
    except ValueError:
        return None  # it is compressed
    return next(iter(event), None)


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()
