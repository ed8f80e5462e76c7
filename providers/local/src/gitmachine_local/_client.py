"""The client's end of the supervisor's socket; `supervisor/wire.py` documents the protocol.

Whatever arrives here was sent from inside the machine and is not trusted: it is bounded, parsed as plain words, and
descriptors are never received.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from gitmachine import MachineLostError
from gitmachine_local._errors import PROVIDER, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MAX_REPLY_BYTES = 64 << 10
BEAT_SECONDS = 15.0
SILENCE_SECONDS = 90.0
CALL_SECONDS = 60.0


class Channel:
    """One connection to a supervisor, for any number of requests and commands at once; bound to its event loop."""

    def __init__(self, sock: socket.socket, machine_id: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.machine_id = machine_id
        self.lost: MachineLostError | None = None
        self.closed = False
        self._sock = sock
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[bytes, ...]]] = {}
        self._exits: dict[int, Callable[[int | None, bool], None]] = {}
        self._buffer = bytearray()
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._heard = self.loop.time()
        self._beat = self.loop.call_later(BEAT_SECONDS, self._check)
        self.loop.add_reader(sock.fileno(), self._receive)

    @classmethod
    async def connect(cls, path: Path, machine_id: str) -> Channel:
        """Connect to a machine's supervisor.

        Raises:
            MachineLostError: nobody listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            deadline = time.monotonic() + CALL_SECONDS
            while True:
                try:
                    sock.connect(str(path))
                    break
                except BlockingIOError:  # its queue is full of others who want to connect
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.01)
        except OSError as error:
            sock.close()
            message = f"the machine {machine_id} is gone: nothing answers at its socket ({error.strerror})"
            raise MachineLostError(message, machine_id=machine_id, provider=PROVIDER, operation="connect") from error
        return cls(sock, machine_id)

    # Requests

    async def call(
        self, op: str, *arguments: bytes, fds: Sequence[int] = (), timeout: float | None = CALL_SECONDS
    ) -> int:
        """Send a request and return the number in its answer. The descriptors are the channel's to close.

        Raises:
            RemoteFailure: the supervisor answered with an error.
            MachineLostError: the machine is gone, or did not answer in time.
        """
        return int((await self.answer(self.send(op, *arguments, fds=fds), timeout=timeout))[1])

    def send(
        self,
        op: str,
        *arguments: bytes,
        fds: Sequence[int] = (),
        on_exit: Callable[[int | None, bool], None] | None = None,
    ) -> int:
        """Send a request and return its id for `answer`; `on_exit` sees the exit code, or None when all is lost."""
        if self.lost is not None:
            _close(fds)
            raise self.lost
        ident = next(self._ids)
        self._waiting[ident] = self.loop.create_future()
        if on_exit is not None:
            self._exits[ident] = on_exit
        self._post((b"%d" % ident, op.encode(), *arguments), fds)
        return ident

    def tell(self, ident: int, op: str, *arguments: bytes) -> None:
        """Send a request about a command that has no answer of its own."""
        if self.lost is None and not self.closed:
            self._post((b"%d" % ident, op.encode(), *arguments), ())

    def expect(self, ident: int) -> asyncio.Future[tuple[bytes, ...]]:
        """Return the words of a coming answer; also again, after a wait for them was cancelled."""
        return self._waiting.setdefault(ident, self.loop.create_future())

    async def answer(self, ident: int, *, timeout: float | None = CALL_SECONDS) -> tuple[bytes, ...]:
        """Wait for the words of the answer to `send`; see `call`."""
        future = self._waiting[ident]
        try:
            if timeout is None:
                words = await future
            else:
                async with asyncio.timeout(timeout):
                    words = await future
        except TimeoutError:
            raise self._loss(f"the machine {self.machine_id} did not answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(ident, None)
        if words[0] == b"error":
            raise RemoteFailure(int(words[1]), b" ".join(words[2:]))
        return words

    def _post(self, fields: Sequence[bytes], fds: Sequence[int]) -> None:
        body = b"\0".join(fields)
        self._out.append((memoryview(len(body).to_bytes(4, "big") + body), fds))
        if len(self._out) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._out:
            data, fds = self._out[0]
            try:
                sent = socket.send_fds(self._sock, [data], list(fds)) if fds else self._sock.send(data)
            except BlockingIOError:
                self.loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                self._lose(error.strerror or str(error))
                return
            _close(fds)
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()
        self.loop.remove_writer(self._sock.fileno())

    # Replies

    def _receive(self) -> None:
        try:
            data = self._sock.recv(MAX_REPLY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("its first process ended")
            return
        self._heard = self.loop.time()
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > MAX_REPLY_BYTES:
                self._lose("its answers make no sense")
                return
            if len(self._buffer) < end:
                return
            words = bytes(self._buffer[4:end]).split(b" ")
            del self._buffer[:end]
            try:
                self._dispatch(int(words[0]), tuple(words[1:]))
            except (ValueError, IndexError):
                self._lose("its answers make no sense")
                return

    def _dispatch(self, ident: int, words: tuple[bytes, ...]) -> None:
        if words[0] == b"exit":
            code, timed_out = int(words[1]) & 255, words[2] == b"1"
            on_exit = self._exits.pop(ident, None)
            if on_exit is not None:
                on_exit(code, timed_out)
                return
        int(words[1])  # of every other kind of answer; checked here, where nonsense is dealt with
        if words[0] == b"error":
            self._exits.pop(ident, None)
        future = self._waiting.get(ident)
        if future is not None and not future.done():
            future.set_result(words)

    # The end

    def _check(self) -> None:
        """Notice a machine that holds the connection but says nothing any more."""
        if self._waiting or self._exits:
            if self.loop.time() - self._heard > SILENCE_SECONDS:
                self._lose(f"it has been silent for {SILENCE_SECONDS:g} s")
                return
            self._post((b"0", b"hello"), ())
        else:
            self._heard = self.loop.time()
        self._beat = self.loop.call_later(BEAT_SECONDS, self._check)

    def _loss(self, message: str) -> MachineLostError:
        return MachineLostError(message, machine_id=self.machine_id, provider=PROVIDER)

    def _lose(self, reason: str) -> None:
        if self.lost is None:
            self.lost = self._loss(f"the machine {self.machine_id} is gone: {reason}")
            self.close()

    def close(self) -> None:
        """Close the connection; every request and command that is waiting fails."""
        if self.closed:
            return
        self.closed = True
        if self.lost is None:
            self.lost = self._loss(f"the connection to the machine {self.machine_id} was closed")
        self._beat.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._sock.fileno())
            self.loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _data, fds in self._out:
            _close(fds)
        self._out.clear()
        for future in self._waiting.values():
            if not future.done() and not self.loop.is_closed():
                future.set_exception(self.lost)
                future.exception()  # it may have no reader left, which is no reason for a warning
        for on_exit in list(self._exits.values()):
            on_exit(None, False)
        self._exits.clear()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
