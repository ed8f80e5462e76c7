"""The proxy before the sandboxes: finds the one that is meant and carries bytes (reference, 1.5 and 2.8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from support.e2b.errors import ApiError
from support.e2b.front import RECORD, STRUCK, hang_up
from support.e2b.outlet import CutError, Outlet, OverError
from support.e2b.recording import Recorded
from support.e2b.sandboxes import Sandbox, Sandboxes
from support.e2b.signatures import sign

ENVD_PORT = 49983
_PREPARED = web.RequestKey("prepared", bool)
_RESERVED = {"/init", "/freeze", "/unfreeze", "/fsfreeze", "/fsthaw", "/collapse", "/upgrade"}
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "proxy-connection"}


def _problem(status: int, message: str, **fields: object) -> web.Response:
    return web.json_response({**fields, "message": message, "code": status}, status=status)


def _gone(sandbox_id: str) -> web.Response:
    return _problem(502, "The sandbox was not found", sandboxId=sandbox_id)


def _closed(sandbox_id: str, port: int) -> web.Response:
    return _problem(502, "The sandbox is running but port is not open", sandboxId=sandbox_id, port=port)


class Edge:
    """Serves the data plane of all sandboxes at one address."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._ports: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._ports is not None:
            await self._ports.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        found = self._meant(request)
        if isinstance(found, web.Response):
            return found
        sandbox_id, port = found
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return _gone(sandbox_id)
        if port == ENVD_PORT and request.path in _RESERVED:
            return _problem(404, "reserved endpoint", path=request.path)
        if (refusal := _refusal(request, sandbox, port)) is not None:
            return refusal
        if (refusal := await self._awake(request, sandbox, port)) is not None:
            return refusal
        work = asyncio.ensure_future(self._forward(request, sandbox, port))
        sandbox.work.add(work)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.cancelled():  # the client has gone
                work.cancel()
                await asyncio.wait([work])
                raise
            prepared = request.get(_PREPARED, False)
            return hang_up(request) if prepared else _gone(sandbox_id)
        finally:
            sandbox.work.discard(work)

    def _meant(self, request: web.Request) -> tuple[str, int] | web.Response:
        """Find the sandbox and port by the host's name, by headers, or by a file URL's signature."""
        host = request.host.rpartition(":")[0] or request.host
        first, dot, _ = host.partition(".")
        label = first.split("-")
        if dot and len(label) > 1 and label[0].isdigit():
            return label[1], int(label[0])
        sandbox_id = request.headers.get("E2b-Sandbox-Id")
        port = request.headers.get("E2b-Sandbox-Port", str(ENVD_PORT))
        if sandbox_id:
            if not port.isdigit():
                return web.Response(status=400, text="invalid sandbox port")
            return sandbox_id.partition("-")[0], int(port)
        if (signer := self._signer(request)) is not None:
            return signer.sandbox_id, ENVD_PORT
        return web.Response(status=400, text="missing header E2b-Sandbox-Id")

    def _signer(self, request: web.Request) -> Sandbox | None:
        # One address for all sandboxes, and a signed URL carries no header: only its signature tells.
        query = request.query
        expiry = query.get("signature_expiration")
        for sandbox in self._sandboxes.all():
            for operation in ("read", "write"):
                until = int(expiry) if expiry is not None and expiry.isdigit() else None
                user, path = query.get("username", ""), query.get("path", "")
                if query.get("signature") == sign(path, operation, user, sandbox.access_token, until):
                    return sandbox
        return None

    async def _awake(self, request: web.Request, sandbox: Sandbox, port: int) -> web.Response | None:
        if sandbox.transition == "pausing":
            return _problem(409, "The sandbox is still transitioning", sandboxId=sandbox.sandbox_id)
        if sandbox.state == "running" and sandbox.transition in {None, "snapshotting"}:
            return None
        if sandbox.transition == "resuming":
            async with sandbox.lock:
                return None if sandbox.state == "running" else _gone(sandbox.sandbox_id)
        if not sandbox.auto_resume or not sandbox.memory:
            return _gone(sandbox.sandbox_id)
        shown = request.headers.get("X-Access-Token")
        if port == ENVD_PORT and sandbox.secure and shown != sandbox.access_token:
            return _problem(403, "resume not permitted", sandboxId=sandbox.sandbox_id)
        try:
            await self._sandboxes.resume(sandbox, max(sandbox.timeout, self._sandboxes.settings.auto_resume_seconds))
        except ApiError as error:
            return _problem(error.status, error.message, sandboxId=sandbox.sandbox_id)
        return None

    async def _forward(self, request: web.Request, sandbox: Sandbox, port: int) -> web.StreamResponse:
        session, url = sandbox.session, f"http://envd{request.raw_path}"
        if port != ENVD_PORT:
            if self._ports is None:
                self._ports = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True, limit=0),
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,
                )
            session, url = self._ports, f"http://127.0.0.1:{port}{request.raw_path}"
        if session is None:
            return _gone(sandbox.sandbox_id)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP]
        if request[STRUCK].any("unknown"):  # what is packed cannot be added to
            headers = [(name, value) for name, value in headers if name.lower() != "accept-encoding"]
        skipped = ["User-Agent", "Accept", "Accept-Encoding", "Content-Type"]
        try:
            async with session.request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=_body(request, request[RECORD]) if request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=skipped,
            ) as answer:
                return await _carry(request, answer)
        except aiohttp.ClientConnectorError:
            return _closed(sandbox.sandbox_id, port)
        except aiohttp.ClientError:
            return hang_up(request) if request.get(_PREPARED, False) else _closed(sandbox.sandbox_id, port)


async def _body(request: web.Request, record: Recorded) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        record.add(chunk)
        yield chunk


async def _carry(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    struck = request[STRUCK]
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
    framed = answer.content_type == "application/connect+json"
    if struck.first("cut", "after") or struck.first("status", "after") or (struck.any("unknown") and not framed):
        # The front still has to decide what goes out.
        plain = [(name, value) for name, value in headers if name.lower() != "content-length"]
        return web.Response(status=answer.status, headers=plain, body=await answer.read())
    response = web.StreamResponse(status=answer.status, headers=headers)
    if "Content-Length" not in answer.headers and answer.status not in {204, 304}:
        response.enable_chunked_encoding()
    request[_PREPARED] = True
    request[RECORD].status = answer.status
    await response.prepare(request)
    outlet = Outlet(response, struck, framed=framed)
    try:
        async for chunk in answer.content.iter_any():
            await outlet.take(chunk)
        await outlet.finish()
    except CutError:
        return hang_up_midway(request, response)
    except OverError:
        pass  # the rest of what the daemon says goes nowhere
    await response.write_eof()
    return response


def hang_up_midway(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close a connection within an answer's body."""
    if request.transport is not None:
        request.transport.close()
    return response


def _refusal(request: web.Request, sandbox: Sandbox, port: int) -> web.Response | None:
    private = (sandbox.network or {}).get("allowPublicTraffic") is False
    if port == ENVD_PORT or not private:
        return None
    shown = request.headers.get("e2b-traffic-access-token")
    if shown == sandbox.traffic_token:
        return None
    what = "missing" if shown is None else "invalid"
    return _problem(403, f"{what} traffic access token", sandboxId=sandbox.sandbox_id)
