"""The daemon's application: who may call, and what there is besides the services (reference, 2.1 and 2.7)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from support.e2b.envd.config import EnvdConfig
from support.e2b.envd.files import Files, failed
from support.e2b.envd.filesystem_service import FilesystemService
from support.e2b.envd.process_service import ProcessService
from support.e2b.envd.processes import Table

_OPEN = {"/health", "/files"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def memory() -> dict[str, int]:
    """Return the machine's memory in bytes, by the kernel's names."""
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 -- not a file of ours
        rows = [line.split() for line in file]
    return {row[0].rstrip(":"): int(row[1]) << 10 for row in rows}


def application(config: EnvdConfig, table: Table) -> web.Application:
    """Put the daemon together."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Also for calls, also for streams: plain HTTP, no error of Connect.
        if config.token is not None and request.path not in _OPEN:
            shown = request.headers.get("X-Access-Token")
            if shown != config.token:
                return failed(
                    401, "unauthorized access, please provide a valid access token or method signing if supported"
                )
        return await handler(request)

    async def health(request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def metrics(request: web.Request) -> web.Response:
        return web.json_response(_metrics())

    async def envs(request: web.Request) -> web.Response:
        return web.json_response(config.environment())

    app = web.Application(middlewares=[authenticate], client_max_size=1 << 30)
    app.add_routes(ProcessService(config, table).routes())
    app.add_routes(FilesystemService(config).routes())
    app.add_routes(Files(config).routes())
    app.add_routes([web.get("/health", health), web.get("/metrics", metrics), web.get("/envs", envs)])
    return app


def _metrics() -> dict[str, float]:
    found, disk = memory(), shutil.disk_usage("/")
    used = found["MemTotal"] - found["MemAvailable"]
    return {
        "ts": int(time.time()),
        "cpu_count": os.cpu_count() or 1,
        "cpu_used_pct": round(os.getloadavg()[0], 2),
        "mem_total": found["MemTotal"],
        "mem_used": used,
        "mem_cache": found["Cached"],
        "mem_total_mib": found["MemTotal"] >> 20,
        "mem_used_mib": used >> 20,
        "disk_used": disk.used,
        "disk_total": disk.total,
    }


async def serve(config: EnvdConfig, listener: socket.socket) -> None:
    """Serve until killed."""
    table = Table()
    table.watch()
    runner = web.AppRunner(application(config, table), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.get_running_loop().create_future()
