"""What stands before both planes: it records requests and strikes them with faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from support.e2b.faults import Fault, Faults, Struck
from support.e2b.recording import Recorded, begin

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RECORD = web.RequestKey("record", Recorded)
STRUCK = web.RequestKey("struck", Struck)
OWN = "/_emulator/"


def hang_up(request: web.Request) -> web.Response:
    """Close a request's connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


def _answer(fault: Fault) -> web.Response:
    headers = {"Content-Type": "text/plain; charset=utf-8", **fault.headers}
    return web.Response(status=fault.status, headers=headers, body=fault.body.encode())


def _with_unknown(response: web.StreamResponse) -> web.StreamResponse:
    if isinstance(response, web.Response) and response.content_type == "application/json" and response.text:
        body = json.loads(response.text)
        for shown in body if isinstance(body, list) else [body]:
            if isinstance(shown, dict):
                shown["futureField"] = {"value": [1, 2]}
        response.text = json.dumps(body)
    return response


def middleware(surface: str, requests: list[Recorded], faults: Faults) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Make the middleware of one plane; `requests` is appended to."""

    @web.middleware
    async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
        if surface == "api" and request.path.startswith(OWN):
            return await handler(request)
        record = request[RECORD] = begin(request, surface)
        requests.append(record)
        struck = request[STRUCK] = Struck(faults.take(surface, request.method, request.raw_path))
        if surface == "api":
            record.add(await request.read())
        if (delay := struck.any("delay")) is not None and not delay.each:
            await asyncio.sleep(delay.seconds)
        early = struck.first("cut", "before") or struck.first("silent") or struck.first("status", "before")
        if early is not None:
            response = await _early(request, record, early)
        else:
            response = await _late(request, handler, struck)
        if request.transport is not None and not request.transport.is_closing():
            record.status = response.status
        return response

    return front


async def _early(request: web.Request, record: Recorded, fault: Fault) -> web.StreamResponse:
    if record.surface == "sandbox":
        async for chunk in request.content.iter_any():
            record.add(chunk)
    if fault.kind == "cut":
        return hang_up(request)
    if fault.kind == "silent":
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.05)
        return hang_up(request)
    return _answer(fault)


async def _late(request: web.Request, handler: Handler, struck: Struck) -> web.StreamResponse:
    response = await handler(request)
    if struck.first("cut", "after") is not None:
        return hang_up(request)
    if (status := struck.first("status", "after")) is not None and not response.prepared:
        return _answer(status)
    return _with_unknown(response) if struck.any("unknown") is not None else response
