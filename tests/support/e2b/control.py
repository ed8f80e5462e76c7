"""The control plane's calls about sandboxes (reference, 1.6 and 1.7)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from support.e2b import views
from support.e2b.errors import ApiError
from support.e2b.listing import key, matching, page
from support.e2b.network import check
from support.e2b.sandboxes import Sandbox, Sandboxes
from support.e2b.settings import Settings
from support.e2b.templates import Templates
from support.e2b.versions import at_least

V1_SECONDS, V2_SECONDS, RESUME_SECONDS = 15, 300, 15
Call = Callable[[web.Request], Awaitable[web.Response]]


async def body(request: web.Request) -> dict[str, Any]:
    """Read a JSON body; none is an empty one."""
    raw = await request.read()
    if not raw.strip():
        return {}
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, f"validation error: request body has an error: {error}") from error
    if not isinstance(found, dict):
        raise ApiError(400, "validation error: request body has an error: value must be an object")
    return found


def whole(values: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return an integer of a body."""
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ApiError(
            400, f'validation error: request body has an error: Error at "/{name}": value must be an integer'
        )
    return value


class Control:
    """Makes, shows, changes and ends sandboxes for whoever has a key."""

    def __init__(self, sandboxes: Sandboxes, templates: Templates, settings: Settings, keys: set[str]) -> None:
        self._sandboxes = sandboxes
        self._templates = templates
        self._settings = settings
        self._keys = keys
        self._idempotent: dict[tuple[str, str], tuple[str, asyncio.Future[web.Response]]] = {}

    def routes(self) -> list[web.RouteDef]:
        one = "/sandboxes/{id}"
        return [
            web.post("/sandboxes", self.create),
            web.post("/v2/sandboxes", self.create_v2),
            web.get("/sandboxes", self.list_v1),
            web.get("/v2/sandboxes", self.list),
            web.get("/sandboxes/metrics", self.batch_metrics),
            web.get(one, self.get, allow_head=False),
            web.delete(one, self.kill),
            web.post(f"{one}/connect", self.connect),
            web.post(f"/v2{one}/connect", self.connect_v2),
            web.post(f"{one}/resume", self.resume),
            web.post(f"{one}/pause", self.pause),
            web.post(f"{one}/timeout", self.set_timeout),
            web.post(f"{one}/refreshes", self.refresh),
            web.put(f"{one}/network", self.set_network),
            web.get(f"{one}/metrics", self.metrics),
            web.get(f"/v2{one}/logs", self.logs),
        ]

    def team(self, request: web.Request) -> str:
        """Return whose key a request shows.

        Raises:
            ApiError: 401, it shows none, or none that exists.
        """
        key = request.headers.get("X-API-Key")
        if key is None or key not in self._keys:
            raise ApiError(401, "Invalid API key format" if key else "Missing API key: set the X-API-Key header")
        return key

    def sandbox(self, request: web.Request) -> Sandbox:
        return self._sandboxes.owned(request.match_info["id"], self.team(request))

    # Beginning

    async def create(self, request: web.Request) -> web.Response:
        return await self._create(self.team(request), await body(request), V1_SECONDS, secure=None)

    async def create_v2(self, request: web.Request) -> web.Response:
        if not self._settings.v2:
            raise ApiError(404, "no matching operation was found")
        team, asked, name = self.team(request), await body(request), request.headers.get("Idempotency-Key")
        if name is None or not self._settings.idempotency:
            return await self._create(team, asked, V2_SECONDS, secure=True)
        if not re.fullmatch("[a-z0-9-]{1,255}", name):
            raise ApiError(400, 'validation error: parameter "Idempotency-Key" in header has an error')
        text = json.dumps(asked, sort_keys=True)
        known = self._idempotent.get((team, name))
        if known is not None:
            if known[0] != text:
                message = "the key was used for another request"
                raise ApiError(422, message, error_code="idempotency_request_mismatch")
            if not known[1].done():
                message = "a request with this key is in progress"
                raise ApiError(409, message, error_code="idempotency_in_progress")
            first = known[1].result()
            return web.Response(status=first.status, body=first.body, content_type="application/json")
        future: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
        self._idempotent[team, name] = text, future
        try:
            response = await self._create(team, asked, V2_SECONDS, secure=True)
        except BaseException:
            del self._idempotent[team, name]
            raise
        future.set_result(response)
        return response

    async def _create(self, team: str, asked: dict[str, Any], default: int, *, secure: bool | None) -> web.Response:
        reference = asked.get("templateID")
        if not isinstance(reference, str):
            message = 'Error at "/templateID": property "templateID" is missing'
            raise ApiError(400, f"validation error: request body has an error: {message}")
        seconds = whole(asked, "timeout", default)
        if seconds <= 0:
            raise ApiError(400, "Timeout must be greater than 0")
        if seconds > self._settings.max_seconds:
            raise ApiError(400, f"Timeout cannot be greater than {self._settings.max_seconds // 3600} hours")
        template = self._templates.find(reference, team)
        wanted = bool(asked.get("secure")) or self._settings.always_secure if secure is None else secure
        if wanted and not at_least(template.version, "0.2.0"):
            raise ApiError(400, f"secure mode needs envd 0.2.0, template has {template.version}: rebuild the template")
        if asked.get("autoPauseMemory") is False:
            if not asked.get("autoPause"):
                raise ApiError(400, "autoPauseMemory=false requires autoPause")
            if (asked.get("autoResume") or {}).get("enabled"):
                raise ApiError(400, "autoPauseMemory=false cannot be used with autoResume")
        check(asked.get("network") or {}, secure=wanted, version=template.version)
        sandbox = await self._sandboxes.create(
            team=team,
            template_id=template.template_id,
            alias=template.alias,
            version=template.version,
            body=asked,
            timeout=seconds,
            secure=wanted,
            source=template.tree,
        )
        return web.json_response(views.made(sandbox, self._settings), status=201)

    async def connect(self, request: web.Request) -> web.Response:
        sandbox, asked = self.sandbox(request), await body(request)
        return await self._resume(sandbox, whole(asked, "timeout"), memory=asked.get("memory") is not False)

    async def connect_v2(self, request: web.Request) -> web.Response:
        if not self._settings.v2:
            raise ApiError(404, "no matching operation was found")
        sandbox, asked = self.sandbox(request), await body(request)
        return await self._resume(sandbox, whole(asked, "timeout", V2_SECONDS), memory=asked.get("memory") is not False)

    async def resume(self, request: web.Request) -> web.Response:
        sandbox, asked = self.sandbox(request), await body(request)
        if sandbox.state == "running":
            raise ApiError(409, f"Sandbox {sandbox.sandbox_id} is already running")
        seconds = whole(asked, "timeout", RESUME_SECONDS)
        return await self._resume(sandbox, seconds, memory=asked.get("memory") is not False)

    async def _resume(self, sandbox: Sandbox, seconds: int, *, memory: bool) -> web.Response:
        if seconds < 0:
            raise ApiError(400, 'validation error: Error at "/timeout": number must be at least 0')
        if seconds > self._settings.max_seconds:
            raise ApiError(400, f"Timeout cannot be greater than {self._settings.max_seconds // 3600} hours")
        resumed = await self._sandboxes.resume(sandbox, seconds, memory=memory)
        return web.json_response(views.made(sandbox, self._settings), status=201 if resumed else 200)

    # Looking

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(views.detail(self.sandbox(request), self._settings))

    async def list(self, request: web.Request) -> web.Response:
        team = self.team(request)
        mine = [sandbox for sandbox in self._sandboxes.all() if sandbox.team == team]
        rows, following = page(matching(mine, request.query), request.query, lambda row: list(key(row)))
        headers = {"X-Total-Running": str(sum(sandbox.state == "running" for sandbox in mine))}
        if following is not None:
            headers["X-Next-Token"] = following
        return web.json_response([views.listed(row) for row in rows], headers=headers)

    async def list_v1(self, request: web.Request) -> web.Response:
        team = self.team(request)
        mine = [sandbox for sandbox in self._sandboxes.all() if sandbox.team == team]
        query = {"state": "running"} | ({"metadata": request.query["metadata"]} if "metadata" in request.query else {})
        return web.json_response([views.listed(row) for row in matching(mine, query)])

    async def metrics(self, request: web.Request) -> web.Response:
        self.sandbox(request)
        point, query = views.metric(), request.query
        within = int(query.get("start", 0)) <= point["timestampUnix"] <= int(query.get("end", 1 << 60))
        return web.json_response([point] if within else [])

    async def batch_metrics(self, request: web.Request) -> web.Response:
        team = self.team(request)
        names = request.query.get("sandbox_ids", "").split(",")
        if len(names) > 100:
            raise ApiError(400, "Too many sandbox ids")
        found = [self._sandboxes.get(name) for name in names]
        mine = [sandbox for sandbox in found if sandbox is not None and sandbox.team == team]
        return web.json_response({"sandboxes": {sandbox.sandbox_id: views.metric() for sandbox in mine}})

    async def logs(self, request: web.Request) -> web.Response:
        sandbox = self.sandbox(request)
        row = {"timestamp": views.timestamp(sandbox.started_at), "level": "info", "message": "Sandbox started"}
        return web.json_response({"logs": [{**row, "fields": {}}]})

    # Changing

    async def kill(self, request: web.Request) -> web.Response:
        await self._sandboxes.kill(self.sandbox(request))
        return web.Response(status=204)

    async def pause(self, request: web.Request) -> web.Response:
        sandbox, asked = self.sandbox(request), await body(request)
        await self._sandboxes.pause(sandbox, memory=asked.get("memory") is not False)
        return web.Response(status=204)

    def _running(self, request: web.Request) -> Sandbox:
        sandbox = self.sandbox(request)
        if sandbox.state != "running" or sandbox.transition is not None:
            raise ApiError(409, f"sandbox '{sandbox.sandbox_id}' is not running")
        return sandbox

    async def set_timeout(self, request: web.Request) -> web.Response:
        sandbox, asked = self._running(request), await body(request)
        self._sandboxes.expire_in(sandbox, whole(asked, "timeout"))
        return web.Response(status=204)

    async def refresh(self, request: web.Request) -> web.Response:
        sandbox, asked = self._running(request), await body(request)
        seconds = whole(asked, "duration", V1_SECONDS)
        if not 0 <= seconds <= 3600:
            raise ApiError(400, 'validation error: Error at "/duration": number must be 0 to 3600')
        self._sandboxes.expire_in(sandbox, max(V1_SECONDS, seconds), only_later=True)
        return web.Response(status=204)

    async def set_network(self, request: web.Request) -> web.Response:
        sandbox, asked = self._running(request), await body(request)
        check(asked, secure=sandbox.secure, version=sandbox.version)
        # What is left out is cleared, but for what an update cannot say.
        kept = {name: value for name, value in (sandbox.network or {}).items() if name in _ONLY_AT_CREATION}
        sandbox.network = kept | {name: value for name, value in asked.items() if name != "allow_internet_access"}
        sandbox.allow_internet_access = asked.get("allow_internet_access")
        return web.Response(status=204)


_ONLY_AT_CREATION = {"allowPublicTraffic", "maskRequestHost", "httpsPorts"}
