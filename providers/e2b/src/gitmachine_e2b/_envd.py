"""The daemon in a sandbox: calls of its Connect services, with JSON, over plain HTTP/1.1."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import attrs
import httpx

from gitmachine_e2b import _http
from gitmachine_e2b._errors import Broken, Refusal, refusal_of, stream_refusal, transport_errors
from gitmachine_e2b._frames import FrameParser, encode
from gitmachine_e2b._records import (
    DaemonMetrics,
    ProcessInfo,
    ProcessList,
    RecordError,
    structure,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

PORT = 49983
PING_SECONDS = 15
"""How often a quiet stream gives a sign of life. Never 0 or less: that ends the daemon."""
SILENCE_SECONDS = 45.0
"""After so long without a byte the peer of a stream is dead."""
HEALTH_SECONDS = 5.0
READ_OUT_SECONDS = 1.0
LEGACY_USER = "user"
"""Daemons before 0.4.0 have no default user: one has to be named."""
_NUMBER = re.compile(r"\d+")


def at_least(version: str, *wanted: int) -> bool:
    """Whether a daemon's version is this one or a later one; one that does not say counts as new."""
    found = tuple(int(part) for part in _NUMBER.findall(version.partition("-")[0])[:3])
    return not found or found >= wanted


@attrs.frozen(kw_only=True)
class Address:
    """Where a sandbox's daemon is, and what it asks for.

    Attributes:
        url: the base of its addresses.
        sandbox_id: for the proxy in front of it.
        version: of the daemon.
        token: what it asks for, or None.
        user: whom to act as, or None for the daemon's own choice.
    """

    url: str
    sandbox_id: str
    version: str = ""
    token: str | None = attrs.field(default=None, repr=False)
    user: str | None = None

    def has(self, *version: int) -> bool:
        """Whether the daemon is of this version or a later one."""
        return at_least(self.version, *version)

    def acting(self, user: str | None) -> str | None:
        """Return whom to name as the user, or None for nobody."""
        return user or self.user or (None if self.has(0, 4, 0) else LEGACY_USER)

    def headers(self) -> dict[str, str]:
        """Return the headers of every request: the proxy's address, and the token."""
        fields = {"E2b-Sandbox-Id": self.sandbox_id, "E2b-Sandbox-Port": str(PORT)}
        return fields | ({} if self.token is None else {"X-Access-Token": self.token})


class Envd:
    """The daemon of one sandbox."""

    def __init__(self, address: Address, *, seconds: float | None = 60.0) -> None:
        """Talk to the daemon at `address`; a request without a stream may take so many seconds."""
        self.address = address
        self.client = _http.make_client(address.url, {**address.headers(), "Accept-Encoding": "identity"})
        self.seconds = seconds

    async def close(self) -> None:
        """Close the connections, and with them the streams."""
        await self.client.aclose()

    def _as(self, user: str | None) -> dict[str, str]:
        acting = self.address.acting(user)
        if acting is None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{acting}:".encode()).decode()}

    async def call(
        self,
        method: str,
        message: Mapping[str, Any],
        *,
        user: str | None = None,
        safe: bool = False,
        bounded: bool = True,
    ) -> dict[str, Any]:
        """Make a call with one message in each direction.

        Args:
            method: such as ``process.Process/List``.
            message: what to send.
            user: whom to act as; None is the address's own.
            safe: whether it may be repeated after a failure.
            bounded: False for one that waits for a process as long as it takes.
        """
        headers = {"Content-Type": "application/json", "Connect-Protocol-Version": "1", **self._as(user)}
        response = await _http.request(
            self.client,
            "POST",
            f"/{method}",
            seconds=self.seconds if bounded else None,
            safe=safe,
            headers=headers,
            content=_json(message),
        )
        answer = json_of(response)
        if not isinstance(answer, dict):
            raise RecordError(f"the answer of {method} is no object")
        return answer

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, message: Mapping[str, Any], *, user: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Make a call that answers with a stream; gives its messages, and ends with the stream's own good end.

        There is no time limit but for silence: the daemon is asked for signs of life. The header that would limit the
        call, ``Connect-Timeout-Ms``, also ends the process that it starts, so it is never sent.

        Raises:
            Refusal: the call failed, before or after its messages.
            Broken: the connection did, or the stream ended without saying so.
        """
        request = self.client.build_request(
            "POST",
            f"/{method}",
            headers={
                "Content-Type": "application/connect+json",
                "Connect-Protocol-Version": "1",
                "Keepalive-Ping-Interval": str(PING_SECONDS),
                **self._as(user),
            },
            content=encode(_json(message)),
            timeout=httpx.Timeout(None, connect=_http.CONNECT_SECONDS, read=SILENCE_SECONDS),
        )
        with transport_errors():
            response = await self.client.send(request, stream=True)
        try:
            if response.status_code != 200:
                raise await refused(response)
            messages = _messages(response)
            try:
                yield messages
            finally:
                await messages.aclose()
        finally:
            await response.aclose()

    async def stream_input(self, messages: AsyncIterator[Mapping[str, Any]]) -> None:
        """Make the call that takes a stream: ``{start}``, then ``{data}`` as often as needed."""

        async def frames() -> AsyncIterator[bytes]:
            async for message in messages:
                yield encode(_json(message))

        request = self.client.build_request(
            "POST",
            "/process.Process/StreamInput",
            headers={"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"},
            content=frames(),
        )
        with transport_errors():
            response = await self.client.send(request, stream=True)
        try:
            if response.status_code != 200:
                raise await refused(response)
            async for _ in _messages(response):
                pass
        finally:
            await response.aclose()

    # Processes

    async def processes(self) -> tuple[ProcessInfo, ...]:
        """Return the running processes that were started through the daemon."""
        answer = await self.call("process.Process/List", {}, safe=True)
        return structure(answer, ProcessList).processes

    async def send_input(self, pid: int, data: bytes, *, pty: bool = False) -> None:
        """Write to a process's input or terminal; waits while it does not read."""
        kind = "pty" if pty else "stdin"
        message = {"process": {"pid": pid}, "input": {kind: base64.b64encode(data).decode()}}
        await self.call("process.Process/SendInput", message, bounded=False)

    async def close_stdin(self, pid: int) -> None:
        """End a process's input; daemons from 0.5.2."""
        await self.call("process.Process/CloseStdin", {"process": {"pid": pid}}, safe=True)

    async def send_signal(self, pid: int, *, kill: bool = True) -> bool:
        """Send SIGKILL, or SIGTERM, to a process, not to its children; False when there is none."""
        message = {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL" if kill else "SIGNAL_SIGTERM"}
        try:
            await self.call("process.Process/SendSignal", message)
        except Refusal as refusal:
            if refusal.code == "not_found":
                return False
            raise
        return True

    async def resize(self, pid: int, columns: int, rows: int) -> None:
        """Change the size of a process's terminal."""
        message = {"process": {"pid": pid}, "pty": {"size": {"cols": columns, "rows": rows}}}
        await self.call("process.Process/Update", message, safe=True)

    # The daemon itself

    async def healthy(self) -> bool | None:
        """Whether the daemon answers; False when the sandbox does not run, None when that cannot be told.

        Traffic wakes a paused sandbox that resumes by itself; the control plane is who knows without waking it.
        """
        try:
            await _http.send_once(self.client, self.client.build_request("GET", "/health"), HEALTH_SECONDS)
        except Refusal as refusal:
            return False if refusal.sandbox_gone else None
        except Broken:
            return None
        return True

    async def metrics(self) -> DaemonMetrics:
        """Return how busy the sandbox is now."""
        response = await _http.request(self.client, "GET", "/metrics", seconds=self.seconds, safe=True)
        return structure(json_of(response), DaemonMetrics)

    async def variables(self) -> dict[str, str]:
        """Return the variables of every process."""
        response = await _http.request(self.client, "GET", "/envs", seconds=self.seconds, safe=True)
        return {str(name): str(value) for name, value in dict(json_of(response) or {}).items()}


def _json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def decode_json(data: bytes) -> Any:
    """Return what JSON says; raises RecordError for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError("an answer of the daemon is no JSON") from error


def json_of(response: httpx.Response) -> Any:
    """Return the body of an answer, whatever type it says it has."""
    return decode_json(response.content)


async def refused(response: httpx.Response) -> Refusal:
    """Return what an answer with an error status says, reading no more of it than needed."""
    body = b""
    with contextlib.suppress(Broken, TimeoutError), transport_errors():
        async with asyncio.timeout(HEALTH_SECONDS):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) >= _http.ERROR_BODY_BYTES:
                    break
    return refusal_of(response.status_code, response.headers, body)


async def _messages(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the messages of a stream up to its end; raise what the end says."""
    parser = FrameParser()
    pieces = response.aiter_raw()
    with transport_errors():
        async for data in pieces:
            for frame in parser.feed(data):
                if frame.ends_stream:
                    await _read_out(pieces)
                    _check_end(frame.payload)
                    return
                yield frame.payload
    raise Broken("the stream was cut", sent=True)


async def _read_out(pieces: AsyncIterator[bytes]) -> None:
    """Read what follows the last frame, which is the end of the body: then the connection can be used again."""
    with contextlib.suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout(READ_OUT_SECONDS):
            async for _ in pieces:
                pass


def _check_end(payload: bytes) -> None:
    end = decode_json(payload or b"{}")
    if isinstance(end, dict) and end.get("error") is not None:
        raise stream_refusal(end["error"])
