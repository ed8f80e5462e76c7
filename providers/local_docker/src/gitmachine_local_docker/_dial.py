"""Connections to an engine, each as one plain socket, whatever is between: a Unix socket, TCP, TLS, ssh.

Docker's streams need what few libraries give: ending the input while the output goes on. On a plain socket that is
`shutdown`; TLS and ssh are put behind one end of a socket pair and pass it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote

import aiohttp

from gitmachine_local_docker._tls import relay, shake_hands

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from aiohttp.client_proto import ResponseHandler

    from gitmachine_local_docker._endpoint import Endpoint

__all__ = ["CONNECT_SECONDS", "Dialer", "DialingConnector"]

CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 5.0
_MAX_COMPLAINT_BYTES = 4096


class Dialer:
    """Opens connections to one engine, and owns what stands behind them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.complaint = ""
        """What ssh said last on standard error, or the other side of TLS against us."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self) -> socket.socket:
        """Return a new connection to the engine.

        Raises:
            OSError: there is none; TimeoutError where nothing answers.
        """
        async with asyncio.timeout(CONNECT_SECONDS):
            if self.endpoint.parts.scheme == "ssh":
                return await self._ssh()
            if self.endpoint.parts.scheme == "unix":
                return await _connected(socket.AF_UNIX, unquote(self.endpoint.parts.path))
            plain = await self._tcp()
            return await self._tls(plain) if self.endpoint.tls else plain

    async def close(self) -> None:
        """End everything behind the connections; those are closed by whoever has them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)

    async def _tcp(self) -> socket.socket:
        host, port = self.endpoint.address()
        loop = asyncio.get_running_loop()
        error: OSError | None = None
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            del kind, protocol
            try:
                made = await _connected(family, address)
            except OSError as failure:
                error = failure
                continue
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # an engine that vanished is noticed
            return made
        raise error or OSError(f"no address for {host}")

    async def _tls(self, wire: socket.socket) -> socket.socket:
        try:
            context = await asyncio.to_thread(self.endpoint.tls_context)
            session = await shake_hands(wire, context, self.endpoint.address()[0])
        except BaseException:
            wire.close()
            raise
        ours, theirs = _pair()
        self._keep(relay(theirs, wire, session, self._complain))
        return ours

    async def _ssh(self) -> socket.socket:
        """Run ``docker system dial-stdio`` over ssh, as docker/cli does (cli/connhelper)."""
        ours, theirs = _pair()
        try:
            process = await asyncio.create_subprocess_exec(
                *_ssh_argv(self.endpoint), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=asyncio.subprocess.PIPE
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._keep(self._watch(process))
        return ours

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Keep the end of what ssh says, and see it to its end."""
        assert process.stderr is not None
        try:
            said = b""
            while data := await process.stderr.read(_MAX_COMPLAINT_BYTES):
                said = (said + data)[-_MAX_COMPLAINT_BYTES:]
                self.complaint = said.decode("utf-8", "replace").strip()
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _complain(self, said: str) -> None:
        self.complaint = said

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def _connected(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _ssh_argv(endpoint: Endpoint) -> list[str]:
    parts = endpoint.parts
    # Nobody is there to answer a question; a host that went away is noticed.
    options = ["BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=3"]
    argv = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
    if parts.username:
        argv += ["-l", unquote(parts.username)]
    if parts.port:
        argv += ["-p", str(parts.port)]
    remote = ["docker", "system", "dial-stdio"]
    if parts.path.strip("/"):
        remote[1:1] = ["--host", f"unix://{unquote(parts.path)}"]
    return [*argv, "--", parts.hostname or "", " ".join(remote)]


class DialingConnector(aiohttp.BaseConnector):
    """Lets aiohttp, and with it aiodocker, use the connections of a `Dialer`."""

    def __init__(self, dialer: Dialer) -> None:
        super().__init__(limit=0)  # commands wait for nobody but the engine
        self._dialer = dialer

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        # The one method that aiohttp's own connectors override, too.
        del req, traces, timeout
        plain = await self._dialer.dial()
        try:
            _, handler = await self._loop.create_connection(self._factory, sock=plain)
        except BaseException:
            plain.close()
            raise
        return handler
