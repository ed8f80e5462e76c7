"""TLS between two sockets, with each direction ended on its own.

asyncio's TLS transports cannot end the output alone. The protocol can: an alert, ``close_notify``, ends one direction
(RFC 8446, 6.1), and Docker's engine understands it as the end of a command's input.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Session", "relay", "shake_hands"]

T = TypeVar("T")
CHUNK_BYTES = 256 << 10


class Session:
    """A TLS connection on top of a socket; `incoming` and `outgoing` are the bytes on the wire."""

    def __init__(self, wire: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._sending = asyncio.Lock()

    async def flush(self) -> None:
        """Send what TLS has for the other side."""
        async with self._sending:  # both directions have something to say; their records must not mix
            while data := self._outgoing.read():
                await asyncio.get_running_loop().sock_sendall(self._wire, data)

    def end_output(self) -> None:
        """Say that no more will come from here; the other direction goes on."""
        # OpenSSL looks for the other side's own end at once, and takes data for a fatal error instead: show it none.
        arrived = self._incoming.read()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._incoming.write(arrived)

    async def receive(self) -> bool:
        """Take in what came from the other side; False at its end."""
        data = await asyncio.get_running_loop().sock_recv(self._wire, CHUNK_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def perform(self, step: Callable[[], T]) -> T:
        """Repeat a step until it no longer needs more from the other side."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.receive()
                continue
            finally:
                # Also an alert that says what was wrong with the other side's certificate.
                await self.flush()
            return result


async def shake_hands(wire: socket.socket, context: ssl.SSLContext, host: str) -> Session:
    """Return a TLS session with the host at the other end of a socket.

    Raises:
        ssl.SSLError: it is not the host it should be, or does not take our certificate.
    """
    session = Session(wire, context, host)
    await session.perform(session.tls.do_handshake)
    return session


async def relay(plain: socket.socket, wire: socket.socket, session: Session, complain: Callable[[str], None]) -> None:
    """Pass bytes between a plain socket and a TLS session until both directions have ended; closes both sockets.

    `complain` is called with what the other side says against us: with TLS 1.3 it refuses a certificate only later.
    """
    both = [asyncio.ensure_future(_outward(plain, session)), asyncio.ensure_future(_inward(plain, session, complain))]
    try:
        await asyncio.gather(*both)
    except (OSError, ssl.SSLError):
        pass  # whoever has the other end of the plain socket sees it end
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        plain.close()
        wire.close()


async def _outward(plain: socket.socket, session: Session) -> None:
    with contextlib.suppress(ConnectionError):  # why is what the other direction brings
        while data := await asyncio.get_running_loop().sock_recv(plain, CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[session.tls.write(view) :]
            await session.flush()
        session.end_output()
        await session.flush()


async def _inward(plain: socket.socket, session: Session, complain: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await session.perform(lambda: session.tls.read(CHUNK_BYTES)):
            await loop.sock_sendall(plain, data)
    except ssl.SSLError as error:  # the connection was cut, or the engine has ended its direction
        if "alert" in str(error).lower():
            complain(str(error))
    with contextlib.suppress(OSError):
        plain.shutdown(socket.SHUT_WR)
