"""Connect's protocol with its JSON codec: unary calls, server streams and client streams (reference, 2.2)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

STATUS = {
    "canceled": 499,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "unimplemented": 501,
    "internal": 500,
    "unknown": 500,
    "unavailable": 503,
    "unauthenticated": 401,
}
COMPRESSED = 0x01
END = 0x02

Message = Mapping[str, Any]
Unary = Callable[["Call"], Awaitable[Message]]
Streaming = Callable[["Call", "Stream"], Awaitable[None]]


class ConnectError(Exception):
    """An error with one of Connect's codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def body(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


def pick(message: Message, name: str, default: Any = None) -> Any:
    """Return a field by its JSON name or by its name in the protocol's files, as protojson does."""
    if name in message:
        return message[name]
    return message.get(re.sub("([A-Z])", r"_\1", name).lower(), default)


def decode(text: object) -> bytes:
    """Decode a `bytes` field."""
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError as error:
        raise ConnectError("invalid_argument", f"proto: invalid value for bytes field: {error}") from error


class Call:
    """One call: its message and what its headers say."""

    def __init__(self, request: web.Request, message: Message) -> None:
        self.request = request
        self.message = message

    def get(self, name: str, default: Any = None) -> Any:
        return pick(self.message, name, default)

    @property
    def timeout(self) -> float | None:
        """The seconds that `Connect-Timeout-Ms` allows, None without one."""
        text = self.request.headers.get("Connect-Timeout-Ms")
        if text is None:
            return None
        if not re.fullmatch("[0-9]{1,10}", text):
            raise ConnectError("invalid_argument", f"protocol error: invalid timeout {text!r}")
        return int(text) / 1000

    @property
    def ping_seconds(self) -> float:
        """The seconds between keepalives; real envd takes 90 for anything that is no integer."""
        try:
            return int(self.request.headers.get("Keepalive-Ping-Interval", "90"))
        except ValueError:
            return 90


def _message(raw: bytes) -> Message:
    try:
        message = json.loads(raw)
    except ValueError as error:
        raise ConnectError("invalid_argument", f"unmarshal message: {error}") from error
    if not isinstance(message, dict):
        raise ConnectError("invalid_argument", "unmarshal message: expected an object")
    return message


def envelope(flags: int, payload: bytes) -> bytes:
    return struct.pack(">BI", flags, len(payload)) + payload


async def envelopes(request: web.Request) -> AsyncIterator[Message]:
    """Read the messages of a client's stream; they do not align with chunks."""
    compressed = "gzip" in request.headers.get("Connect-Content-Encoding", "")
    buffer = bytearray()
    async for chunk in request.content.iter_any():
        buffer += chunk
        while len(buffer) >= 5:
            flags, length = struct.unpack_from(">BI", buffer)
            if len(buffer) < 5 + length:
                break
            payload = bytes(buffer[5 : 5 + length])
            del buffer[: 5 + length]
            if flags & END:
                return
            if flags & COMPRESSED:
                if not compressed:
                    raise ConnectError(
                        "internal", "protocol error: sent compressed message without compression support"
                    )
                payload = gzip.decompress(payload)
            yield _message(payload)
    if buffer:
        raise ConnectError("invalid_argument", "protocol error: incomplete envelope")


class Stream:
    """What a streaming call answers: frames, each flushed, and the one that ends it."""

    def __init__(self, request: web.Request) -> None:
        offered = request.headers.get("Connect-Accept-Encoding", "") + request.headers.get(
            "Connect-Content-Encoding", ""
        )
        self._compress = "gzip" in offered
        self._request = request
        self.response = web.StreamResponse(headers={"Content-Type": "application/connect+json"})
        self.response.headers["Connect-Accept-Encoding"] = "gzip"
        if self._compress:
            self.response.headers["Connect-Content-Encoding"] = "gzip"
        self.response.enable_chunked_encoding()

    async def send(self, message: Message) -> None:
        await self._write(0, message)

    async def end(self, error: ConnectError | None = None) -> None:
        await self._write(END, {} if error is None else {"error": error.body()})
        await self.response.write_eof()

    async def _write(self, flags: int, message: Message) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)
        payload = json.dumps(message, separators=(",", ":")).encode()
        if self._compress:
            flags, payload = flags | COMPRESSED, gzip.compress(payload)
        await self.response.write(envelope(flags, payload))


def error_response(error: ConnectError) -> web.Response:
    return web.json_response(error.body(), status=STATUS[error.code])


def unary(method: Unary) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serve a method with one message in each direction."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return web.Response(status=415, headers={"Accept-Post": "application/json"})
        try:
            raw = await request.read()
            call = Call(request, _message(raw))
            async with asyncio.timeout(call.timeout):
                answer = await method(call)
        except TimeoutError:
            return error_response(ConnectError("deadline_exceeded", "context deadline exceeded"))
        except ConnectError as error:
            return error_response(error)
        response = web.json_response(answer)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    return handle


def streaming(method: Streaming, *, many: bool = False) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serve a method that answers with a stream; `many` if it takes one too, which it reads by `envelopes`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/connect+json":
            return web.Response(status=415, headers={"Accept-Post": "application/connect+json"})
        stream = Stream(request)
        failure: ConnectError | None = None
        try:
            call = Call(request, {} if many else await _only(request))
            async with asyncio.timeout(call.timeout):
                await method(call, stream)
        except TimeoutError:
            failure = ConnectError("deadline_exceeded", "context deadline exceeded")
        except ConnectError as error:
            failure = error
        with contextlib.suppress(ConnectionError):  # nobody is left who could be told
            await stream.end(failure)
        return stream.response

    return handle


async def _only(request: web.Request) -> Message:
    messages = [message async for message in envelopes(request)]
    if len(messages) != 1:
        raise ConnectError("invalid_argument", f"protocol error: expected one message, got {len(messages)}")
    return messages[0]
