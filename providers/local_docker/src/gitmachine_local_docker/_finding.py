"""Containers that exist: taken over by id or name, found again by label."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import aiodocker

from gitmachine import MachineError, MachineLostError
from gitmachine_local_docker._container import Container
from gitmachine_local_docker._create import LABEL, MACHINE_LABEL, OWNER_LABEL, WORKDIR_LABEL, owner
from gitmachine_local_docker._endpoint import find_endpoint
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._errors import PROVIDER, is_missing, is_unreachable, machine_errors
from gitmachine_local_docker._making import is_gone_for_good
from gitmachine_local_docker._snapshots import delete_copy, image_of_copy
from gitmachine_local_docker.config import DockerConfig

__all__ = ["find", "inventory", "remove", "running"]

log = logging.getLogger("gitmachine.recovery")
"""What is said there the command line shows."""


async def running(engine: Engine, container: str) -> dict[str, Any]:
    """Return what the engine says of a container that runs, or is paused; one of ours that has ended is started again.

    Raises:
        MachineLostError: there is none, or none that has ever run.
        MachineError: it has ended, and is somebody else's or does not start: its files are still there.
    """
    with machine_errors(engine.dialer, container, "connect"):
        try:
            known = await engine.inspect(container)
        except aiodocker.DockerError as error:
            if is_missing(error):
                raise _unknown(container) from error
            raise
        if known["State"].get("Running"):
            return known
        status = str(known["State"].get("Status"))
        if is_gone_for_good(known):
            raise _unknown(container, status)
        if (known["Config"].get("Labels") or {}).get(MACHINE_LABEL) != "1":
            raise _error(f"the container {container!r} is {status}: `docker start` it first", container)
        return await _started_again(engine, known)


async def _started_again(engine: Engine, known: dict[str, Any]) -> dict[str, Any]:
    """Start a container that has ended: its files are all there, the engine or the host was restarted, say."""
    container, code = str(known["Id"]), known["State"].get("ExitCode")
    try:
        await engine.start(container)
        alive = await Container(engine, container).is_alive()
        known = await engine.inspect(container)
        problem = "" if alive and known["State"].get("Running") else "no process can be started in it"
    except aiodocker.DockerError as error:
        if is_missing(error) or is_unreachable(error):
            raise
        problem = " ".join(error.message.split())
    if problem:
        short, workdir = container[:12], (known["Config"].get("Labels") or {}).get(WORKDIR_LABEL) or "/"
        raise _error(
            f"the container {short} has ended and does not start again: {problem}: its files are still there, "
            f"`docker cp {short}:{workdir} .` fetches them; then `docker rm` it",
            container,
        )
    what = "its files are there, what ran in it is not"
    log.warning("the container %s had ended (exit code %s) and was started again: %s", container[:12], code, what)
    return known


def _error(message: str, container: str) -> MachineError:
    return MachineError(message, machine_id=container, provider=PROVIDER, operation="connect")


def _unknown(container: str, status: str | None = None) -> MachineLostError:
    what = f"the container {container!r} is {status}" if status else f"there is no container {container!r}"
    return MachineLostError(
        f"{what} at this Docker engine", machine_id=container, provider=PROVIDER, operation="connect"
    )


async def remove(engine: Engine, container: str) -> None:
    """Remove a container, and the image with it that was made for it alone; fine when it is gone already."""
    try:
        image = image_of_copy(await engine.inspect(container))
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise
        return
    await engine.remove(container)
    if image is not None:
        with contextlib.suppress(aiodocker.DockerError):  # a copy of this copy needs it; it goes with that one
            await engine.delete_image(image)


async def find(label: str, config: DockerConfig | None = None) -> str | None:
    """Return the id of the container that carries a session's label; one that never ran is removed, and its image."""
    engine = Engine(await asyncio.to_thread(find_endpoint, config or DockerConfig()))
    found = None
    try:
        with machine_errors(engine.dialer, None, "find"):
            for container in await engine.labelled(f"{LABEL}={label}"):
                if is_gone_for_good(container):
                    await engine.remove(container["Id"])
                else:
                    found = str(container["Id"])
            if found is None:
                await delete_copy(engine, label)
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
