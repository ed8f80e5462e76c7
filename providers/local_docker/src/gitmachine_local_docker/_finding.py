"""Containers that exist: taken over by id or name, found again by label."""

from __future__ import annotations

import asyncio
from typing import Any

import aiodocker

from gitmachine import MachineLostError
from gitmachine_local_docker._create import LABEL, MACHINE_LABEL, OWNER_LABEL, owner
from gitmachine_local_docker._endpoint import find_endpoint
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._errors import PROVIDER, is_missing, machine_errors
from gitmachine_local_docker._making import is_gone_for_good
from gitmachine_local_docker.config import DockerConfig

__all__ = ["find", "inventory", "running"]


async def running(engine: Engine, container: str) -> dict[str, Any]:
    """Return what the engine says of a container that runs, or is paused; one of ours that has ended is started again.

    Raises:
        MachineLostError: there is none.
    """
    with machine_errors(engine.dialer, container, "connect"):
        try:
            known = await engine.inspect(container)
        except aiodocker.DockerError as error:
            if is_missing(error):
                raise _unknown(container) from error
            raise
        if not known["State"].get("Running") and _can_go_on(known):
            await engine.start(known["Id"])  # its files are all there: the engine, or the host, was restarted
            known = await engine.inspect(container)
    if not known["State"].get("Running"):
        raise _unknown(container, known["State"].get("Status"))
    return known


def _can_go_on(known: dict[str, Any]) -> bool:
    return not is_gone_for_good(known) and (known["Config"].get("Labels") or {}).get(MACHINE_LABEL) == "1"


def _unknown(container: str, status: str | None = None) -> MachineLostError:
    what = f"the container {container!r} is {status}" if status else f"there is no container {container!r}"
    return MachineLostError(
        f"{what} at this Docker engine", machine_id=container, provider=PROVIDER, operation="connect"
    )


async def find(label: str, config: DockerConfig | None = None) -> str | None:
    """Return the id of the container that carries a session's label; one that never ran is removed."""
    engine = Engine(await asyncio.to_thread(find_endpoint, config or DockerConfig()))
    found = None
    try:
        with machine_errors(engine.dialer, None, "find"):
            for container in await engine.labelled(f"{LABEL}={label}"):
                if is_gone_for_good(container):
                    await engine.remove(container["Id"])
                else:
                    found = str(container["Id"])
    finally:
        await engine.close()
    return found


async def inventory(config: DockerConfig | None = None) -> dict[str, str]:
    """Return every container that this user made from this host for a session, with the session's label."""
    engine = Engine(await asyncio.to_thread(find_endpoint, config or DockerConfig()))
    try:
        with machine_errors(engine.dialer, None, "inventory"):
            containers = await engine.labelled(MACHINE_LABEL, f"{OWNER_LABEL}={owner()}")
    finally:
        await engine.close()
    return {container["Id"]: label for container in containers if (label := container["Labels"].get(LABEL))}
