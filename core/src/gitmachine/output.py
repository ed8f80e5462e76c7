"""What becomes of a command's output: bytes kept in bounded memory, text handed to callbacks as it arrives."""

from __future__ import annotations

import codecs
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["DEFAULT_MAX_OUTPUT_BYTES", "BytesCallback", "OutputBuffer", "OutputCallback", "TextSink", "pump"]

DEFAULT_MAX_OUTPUT_BYTES = 10 * 1024 * 1024
"""How much of each stream a result keeps: the first and the last half of this many bytes."""

OutputCallback = Callable[[str], Awaitable[None] | None]
"""Called with decoded text as output arrives; may be a plain function or a coroutine function."""

BytesCallback = Callable[[bytes], Awaitable[None] | None]
"""Called with the exact bytes as they arrive; may be a plain function or a coroutine function."""


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
        if len(data) >= self._tail_limit:
            self.truncated = self.truncated or bool(self._tail) or len(data) > self._tail_limit
            self._tail[:] = data[len(data) - self._tail_limit :]
            return
        self._tail += data
        # Trimmed at twice the limit, not at each chunk: every byte is moved once at most.
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
        return bytes(self._head + self._tail) if self._tail else bytes(self._head)


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


async def pump(
    stream: AsyncIterator[bytes],
    buffer: OutputBuffer,
    on_text: OutputCallback | None = None,
    on_bytes: BytesCallback | None = None,
) -> None:
    """Read a stream to its end: into the buffer, and piece by piece to the callbacks.

    The next piece is read when the callbacks are done with the last: a slow callback slows its own command.
    """
    sink = TextSink(on_text) if on_text is not None else None
    async for data in stream:
        buffer.append(data)
        if on_bytes is not None:
            answer = on_bytes(data)
            if inspect.isawaitable(answer):
                await answer
        if sink is not None:
            await sink.write(data)
    if sink is not None:
        await sink.write(b"", final=True)
