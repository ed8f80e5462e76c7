"""Where a container's port can be reached from here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gitmachine import MachineError
from gitmachine.machine import Host
from gitmachine_local_docker._errors import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine_local_docker._engine import Engine

__all__ = ["host_of"]

_ANY = {"", "0.0.0.0", "::"}  # noqa: S104  # compared with, not bound to


async def host_of(engine: Engine, known: Mapping[str, Any], port: int) -> Host:
    """Return the address of a port.

    A published port is reached where it is published. Another one is reached at the container's own address, which
    this host has a route to when the engine runs on it, on Linux, as root.

    Raises:
        MachineError: there is no way to it; says what to set.
    """
    network = known["NetworkSettings"]
    for published in (network.get("Ports") or {}).get(f"{port}/tcp") or ():
        address = _address(engine, str(published.get("HostIp", "")))
        if address is not None:
            return Host(f"{address}:{published['HostPort']}")
        raise _refusal(
            known,
            port,
            "it is published on the engine's own loopback, and the engine is on another host: publish it as "
            f'"0.0.0.0:{port}:{port}" in `ports`, or forward it with ssh -L',
        )
    mode = known["HostConfig"].get("NetworkMode")
    if mode == "none":
        raise _refusal(known, port, 'the container has no network: set network = "bridge"')
    if mode == "host" and engine.dialer.endpoint.local:
        return Host(f"127.0.0.1:{port}")
    addresses = [str(about.get("IPAddress") or "") for about in (network.get("Networks") or {}).values()]
    if any(addresses) and sys.platform == "linux" and engine.dialer.endpoint.local and not await _is_rootless(engine):
        return Host(f"{next(filter(None, addresses))}:{port}")
    raise _refusal(known, port, f'add it to the machine\'s `ports`: ports = ["{port}"]')


def _address(engine: Engine, address: str) -> str | None:
    parts = engine.dialer.endpoint.parts
    if engine.dialer.endpoint.local or parts.hostname in {"127.0.0.1", "localhost", "::1"}:
        found = "127.0.0.1" if address in _ANY else address
    elif address in {"127.0.0.1", "::1"}:
        return None
    else:
        found = str(parts.hostname) if address in _ANY else address
    return f"[{found}]" if ":" in found else found


async def _is_rootless(engine: Engine) -> bool:
    return any("rootless" in option for option in (await engine.info()).get("SecurityOptions") or ())


def _refusal(known: Mapping[str, Any], port: int, what: str) -> MachineError:
    return MachineError(
        f"port {port} of the container cannot be reached from here: {what}",
        machine_id=str(known["Id"]),
        provider=PROVIDER,
        operation="get_host",
    )
