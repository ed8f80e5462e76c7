"""The raw streams of an exec: the engine's HTTP connection, taken over once the command runs.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Exec/operation/ExecStart and, for the frames,
#tag/Container/operation/ContainerAttach: eight bytes (the stream, three zeros, the length) before each piece.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiodocker

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine_local_docker._dial import Dialer

__all__ = ["Hijacked", "content_length", "hijack", "message_of"]

_HEADER_BYTES = 8
_MAX_HEAD_BYTES = 64 << 10
SINK = "Callable[[int, bytes], None]"


class Hijacked(asyncio.Protocol):
    """One exec's streams. What arrives is handed to `sink(stream, data)`, the end to `ended()`."""

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty
        self._head: bytearray | None = bytearray()
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._input_ended = False
        self.lost = False
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._early: list[tuple[int, bytes]] = []
        self._sink: Callable[[int, bytes], None] = lambda stream, data: self._early.append((stream, data))
        self._ended: Callable[[], None] | None = None

    def deliver(self, sink: Callable[[int, bytes], None], ended: Callable[[], None]) -> None:
        """Hand everything to a sink from now on, beginning with what has come already."""
        self._sink, self._ended = sink, ended
        for stream, data in self._early:
            sink(stream, data)
        self._early.clear()
        if self.lost:
            ended()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read the head of the answer, then frames."""
        if self._head is not None:
            self._head += data
            data = self._read_head()
        if data or self._rest:
            self._read_frames(data)

    def _read_head(self) -> bytes:
        assert self._head is not None
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _MAX_HEAD_BYTES:
                self._refuse(502, "the answer is not HTTP")
            return b""
        head, body = bytes(self._head[:end]), bytes(self._head[end + 4 :])
        status = head.split(b" ", 2)[1:2]
        if status and status[0] in {b"101", b"200"}:
            self._head = None
            if not self.upgraded.done():
                self.upgraded.set_result(None)
            return body
        length = content_length(head)
        if len(body) >= (1 if length is None else length):
            self._refuse(int(status[0]) if status and status[0].isdigit() else 502, message_of(body))
        return b""

    def _refuse(self, status: int, message: str) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(aiodocker.DockerError(status, message))
        self.close()

    def _read_frames(self, data: bytes) -> None:
        if self._tty:
            self._sink(1, data)
            return
        if self._rest:
            data = self._rest + data
        view, at, size = memoryview(data), 0, len(data)
        stream, pieces = 0, list[memoryview]()  # what comes together for one stream is handed on together
        while size - at >= _HEADER_BYTES:
            length = int.from_bytes(view[at + 4 : at + 8], "big")
            if size - at - _HEADER_BYTES < length:
                break
            if pieces and view[at] != stream:
                self._sink(stream, b"".join(pieces))
                pieces.clear()
            stream, at = view[at], at + _HEADER_BYTES
            if length:
                pieces.append(view[at : at + length])
            at += length
        if pieces:
            self._sink(stream, b"".join(pieces))
        self._rest = bytes(view[at:]) if at < size else b""

    def eof_received(self) -> bool:
        """Close our side, too: at once, since nobody will read what is still to be sent."""
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever listens."""
        self.lost = True
        self._writable.set()
        if not self.upgraded.done():
            self.upgraded.set_exception(exc or ConnectionResetError("the engine closed the connection"))
        if self._ended is not None:
            self._ended()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    # What its owner calls

    def start(self, request: bytes) -> None:
        """Send the request."""
        assert self._transport is not None
        self._transport.write(request)

    def write(self, data: bytes) -> None:
        """Write to the command's input; nothing where that has ended."""
        if not self.lost and not self._input_ended and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until there is room for more, or nobody reads any more."""
        await self._writable.wait()

    async def send(self, data: bytes) -> None:
        """Write to the command's input, and wait for room.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if not self.lost and not self._input_ended:
            self.write(data)
            await self.drain()
        if self.lost or self._input_ended:
            raise BrokenPipeError("the command's input is closed")

    def end_input(self) -> None:
        """End the command's input; its output goes on."""
        if not self._input_ended and not self.lost and self._transport is not None:
            self._input_ended = True
            self._transport.write_eof()

    def hold(self, paused: bool) -> None:
        """Let the engine wait with its output, or go on."""
        if paused == self._paused or self.lost or self._transport is None or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection; what has not arrived by now never does."""
        if self._transport is not None:
            self._transport.abort()


def content_length(head: bytes) -> int | None:
    """Return how long the head of an answer says that its body is, or None."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def message_of(body: bytes) -> str:
    """Return what the body of a refusal says."""
    text = body.decode("utf-8", "replace")
    try:
        return str(json.loads(text[text.index("{") : text.rindex("}") + 1])["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()


async def hijack(dialer: Dialer, path: str, body: dict[str, object], *, tty: bool) -> Hijacked:
    """Post a request whose answer is a stream, and return the stream.

    Raises:
        aiodocker.DockerError: the engine refused.
        OSError: the engine cannot be reached.
    """
    loop = asyncio.get_running_loop()
    plain = await dialer.dial()
    try:
        _, stream = await loop.create_connection(lambda: Hijacked(tty=tty), sock=plain)
    except BaseException:
        plain.close()
        raise
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    try:
        stream.start(head.encode() + content)
        await stream.upgraded
    except BaseException:
        stream.close()
        raise
    return stream
