"""The emulator's own endpoint, for tests in other processes than its own."""

from __future__ import annotations

import os
import signal

import attrs
from aiohttp import web

from support.e2b.faults import Faults
from support.e2b.front import OWN
from support.e2b.recording import Recorded
from support.e2b.sandboxes import Sandboxes
from support.e2b.settings import Settings


class Knobs:
    """Sets faults and settings, and shows requests and sandboxes."""

    def __init__(self, sandboxes: Sandboxes, faults: Faults, requests: list[Recorded], settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._faults = faults
        self._requests = requests
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{OWN}faults", self.faults),
            web.post(f"{OWN}faults", self.add_fault),
            web.delete(f"{OWN}faults", self.clear_faults),
            web.get(f"{OWN}requests", self.requests),
            web.delete(f"{OWN}requests", self.clear_requests),
            web.get(f"{OWN}settings", self.settings),
            web.patch(f"{OWN}settings", self.change_settings),
            web.get(f"{OWN}sandboxes", self.sandboxes),
            web.post(f"{OWN}sandboxes/{{id}}/crash", self.crash),
        ]

    async def faults(self, request: web.Request) -> web.Response:
        return web.json_response([attrs.asdict(fault) for fault in self._faults.all()])

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = self._faults.add(**await request.json())
        return web.json_response(attrs.asdict(fault), status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def requests(self, request: web.Request) -> web.Response:
        return web.json_response([record.view() for record in list(self._requests)])

    async def clear_requests(self, request: web.Request) -> web.Response:
        self._requests.clear()
        return web.Response(status=204)

    async def settings(self, request: web.Request) -> web.Response:
        return web.json_response(attrs.asdict(self._settings))

    async def change_settings(self, request: web.Request) -> web.Response:
        for name, value in (await request.json()).items():
            if name not in {field.name for field in attrs.fields(Settings)}:
                return web.json_response({"message": f"no setting {name!r}"}, status=400)
            setattr(self._settings, name, value)
        return await self.settings(request)

    async def sandboxes(self, request: web.Request) -> web.Response:
        return web.json_response([sandbox.sandbox_id for sandbox in self._sandboxes.all()])

    async def crash(self, request: web.Request) -> web.Response:
        """Kill a sandbox's daemon and all its processes, and leave the sandbox as it is."""
        sandbox = self._sandboxes.get(request.match_info["id"])
        if sandbox is None or sandbox.guest is None:
            return web.Response(status=404)
        os.kill(sandbox.guest.pid, signal.SIGKILL)
        await sandbox.guest.ended.wait()
        return web.Response(status=204)
