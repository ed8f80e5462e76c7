"""How the control plane shows sandboxes (reference, 1.6)."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from typing import Any

from support.e2b.envd.app import memory
from support.e2b.sandboxes import Sandbox
from support.e2b.settings import Settings

CLIENT_ID = "6532622b"


def timestamp(seconds: float) -> str:
    """Write unix seconds as RFC 3339."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


def made(sandbox: Sandbox, settings: Settings) -> dict[str, Any]:
    """Show a sandbox as create, connect, resume and fork do."""
    private = (sandbox.network or {}).get("allowPublicTraffic") is False
    shown: dict[str, Any] = {
        "templateID": sandbox.template_id,
        "sandboxID": sandbox.sandbox_id,
        "clientID": CLIENT_ID,
        "envdVersion": sandbox.version,
        "domain": settings.domain,
        "trafficAccessToken": sandbox.traffic_token if private else None,
    }
    if sandbox.alias is not None:
        shown["alias"] = sandbox.alias
    if sandbox.secure:
        shown["envdAccessToken"] = sandbox.access_token
    return shown


def listed(sandbox: Sandbox) -> dict[str, Any]:
    """Show a sandbox as a row of a list."""
    # One that is being paused counts as paused already.
    state = "paused" if sandbox.transition == "pausing" else sandbox.state
    shown: dict[str, Any] = {
        "templateID": sandbox.template_id,
        "sandboxID": sandbox.sandbox_id,
        "clientID": CLIENT_ID,
        "startedAt": timestamp(sandbox.started_at),
        "endAt": timestamp(sandbox.end_at),
        "cpuCount": 2,
        "memoryMB": 512,
        "diskSizeMB": 10240,
        "state": state,
        "envdVersion": sandbox.version,
        "metadata": sandbox.metadata,
    }
    if sandbox.alias is not None:
        shown["alias"] = sandbox.alias
    if state == "paused":
        shown["pauseMode"] = "full" if sandbox.memory else "filesystem"
    return shown


def detail(sandbox: Sandbox, settings: Settings) -> dict[str, Any]:
    """Show a sandbox as get does."""
    shown = listed(sandbox)
    shown["allowInternetAccess"] = sandbox.allow_internet_access
    shown["domain"] = settings.domain
    shown["lifecycle"] = {
        "autoResume": sandbox.auto_resume,
        "onTimeout": "pause" if sandbox.body.get("autoPause") else "kill",
    }
    if sandbox.network is not None:
        shown["network"] = _without_password(sandbox.network)
    if sandbox.secure:
        shown["envdAccessToken"] = sandbox.access_token
    return shown


def _without_password(network: dict[str, Any]) -> dict[str, Any]:
    proxy = network.get("egressProxy")
    if not isinstance(proxy, dict):
        return network
    return {**network, "egressProxy": {key: value for key, value in proxy.items() if key != "password"}}


def metric() -> dict[str, Any]:
    """Measure this machine, which is every sandbox's."""
    found, disk, now = memory(), shutil.disk_usage("/"), time.time()
    return {
        "timestamp": timestamp(now),
        "timestampUnix": int(now),
        "cpuCount": os.cpu_count() or 1,
        "cpuUsedPct": round(os.getloadavg()[0], 2),
        "memUsed": found["MemTotal"] - found["MemAvailable"],
        "memTotal": found["MemTotal"],
        "memCache": found["Cached"],
        "diskUsed": disk.used,
        "diskTotal": disk.total,
    }
