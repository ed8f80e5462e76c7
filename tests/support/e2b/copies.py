"""The control plane's calls about snapshots and forks (reference, 1.6)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiohttp import web

from support.e2b import trees, views
from support.e2b.control import Control, body, whole
from support.e2b.errors import ApiError
from support.e2b.listing import page
from support.e2b.sandboxes import Sandbox, Sandboxes, new_id
from support.e2b.settings import Settings
from support.e2b.templates import Templates
from support.e2b.versions import at_least

FORK_SECONDS = 15


class Copies:
    """Copies sandboxes' files; their processes cannot be copied here."""

    def __init__(self, control: Control, sandboxes: Sandboxes, templates: Templates, settings: Settings) -> None:
        self._control = control
        self._sandboxes = sandboxes
        self._templates = templates
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sandboxes/{id}/snapshots", self.snapshot),
            web.get("/snapshots", self.list),
            web.delete("/templates/{reference}", self.delete),
            web.post("/sandboxes/{id}/fork", self.fork),
        ]

    def _source(self, request: web.Request, what: str) -> Sandbox:
        sandbox = self._control.sandbox(request)
        if not at_least(sandbox.version, "0.5.0"):
            raise ApiError(400, f"{what} needs envd 0.5.0, this sandbox has {sandbox.version}")
        return sandbox

    async def snapshot(self, request: web.Request) -> web.Response:
        sandbox = self._source(request, "a snapshot")
        if not await request.read():
            raise ApiError(400, "validation error: request body has an error: value is required but missing")
        asked = await body(request)
        snapshot = self._templates.reserve(asked.get("name"), sandbox.sandbox_id, sandbox.version, sandbox.team)
        await self._sandboxes.copy(sandbox, snapshot.tree)
        self._templates.add(snapshot)
        return web.json_response(snapshot.view(), status=201)

    async def list(self, request: web.Request) -> web.Response:
        team, query = self._control.team(request), request.query
        found = [
            snapshot
            for snapshot in self._templates.snapshots(team)
            if query.get("sandboxID", snapshot.source) == snapshot.source
            and ("name" not in query or self._templates.snapshot(query["name"], team) is snapshot)
        ]
        rows, following = page(found, query, lambda row: row.template_id)
        headers = {} if following is None else {"X-Next-Token": following}
        return web.json_response([row.view() for row in rows], headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        team, reference = self._control.team(request), request.match_info["reference"]
        snapshot = self._templates.snapshot(reference, team)
        if snapshot is None:
            raise ApiError(404, f"template '{reference}' not found")
        self._templates.remove(snapshot)
        await asyncio.to_thread(trees.remove, snapshot.tree)
        return web.Response(status=204)

    async def fork(self, request: web.Request) -> web.Response:
        sandbox, asked = self._source(request, "a fork"), await body(request)
        seconds, count = whole(asked, "timeout", FORK_SECONDS), whole(asked, "count", 1)
        if not 1 <= count <= 100:
            raise ApiError(400, 'validation error: Error at "/count": number must be 1 to 100')
        if count >= self._settings.concurrency_limit:
            raise ApiError(400, f"count must be below the limit of concurrent sandboxes ({count})")
        checkpoint = self._sandboxes.directory / "forks" / new_id("f")
        await self._sandboxes.copy(sandbox, checkpoint)
        try:
            made = [await self._one(sandbox, checkpoint, seconds) for _ in range(count)]
        finally:
            await asyncio.to_thread(shutil.rmtree, checkpoint, ignore_errors=True)
        return web.json_response(made, status=201)

    async def _one(self, sandbox: Sandbox, checkpoint: Path, seconds: int) -> dict[str, object]:
        try:
            forked = await self._sandboxes.create(
                team=sandbox.team,
                template_id=sandbox.template_id,
                alias=sandbox.alias,
                version=sandbox.version,
                body=sandbox.body,
                timeout=seconds,
                secure=sandbox.secure,
                source=checkpoint,
            )
        except ApiError as error:
            return {"error": error.body()}
        return {"sandbox": views.made(forked, self._settings)}
