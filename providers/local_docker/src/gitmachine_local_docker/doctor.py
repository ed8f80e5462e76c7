"""Whether Docker machines can work: the engine, the image, and a command in a real container."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiodocker
import attrs

from gitmachine import Check, ConfigError, ExecRequest, GitMachineError
from gitmachine_local_docker._endpoint import find_endpoint
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._errors import FOREIGN, is_missing, unreachable
from gitmachine_local_docker.config import DockerConfig
from gitmachine_local_docker.machine import DockerMachine

if TYPE_CHECKING:
    from gitmachine_local_docker._endpoint import Endpoint

__all__ = ["doctor"]

OLDEST_API = (1, 41)
"""The oldest version of the engine's API that this provider is tried with."""
ANSWER_SECONDS = 30.0
MACHINE_SECONDS = 120.0


async def doctor(config: DockerConfig | None = None) -> list[Check]:
    """Ask the engine, look for the image, and run a command in a container of it; pulls nothing."""
    config = config if config is not None else DockerConfig()
    try:
        endpoint = await asyncio.to_thread(find_endpoint, config)
    except ConfigError as error:
        return [Check(name="endpoint", ok=False, detail=str(error), fix="name an engine that there is")]
    engine = Engine(endpoint)
    try:
        checks = [await _engine(engine, endpoint)]
        if checks[-1].ok:
            checks.append(await _image(engine, config))
    finally:
        await engine.close()
    if all(check.ok for check in checks) and checks[-1].detail != _NOT_THERE:
        checks.extend(await _machine(config))
    return checks


async def _engine(engine: Engine, endpoint: Endpoint) -> Check:
    where = f"{endpoint.url} ({endpoint.origin})"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            version = await engine.version()
            info = await engine.info()
    except FOREIGN as error:
        detail, _, fix = unreachable(error, engine.dialer).rpartition(": ")
        return Check(name="engine", ok=False, detail=detail, fix=fix)
    api = str(version.get("ApiVersion", ""))
    detail = f"{where}: {version.get('Version')}, API {api}, {info.get('OSType')}/{info.get('Architecture')}"
    if info.get("OSType") != "linux":
        return Check(name="engine", ok=False, detail=detail, fix="machines are Linux containers: use a Linux engine")
    if tuple(int(part) for part in api.split(".") if part.isdecimal()) < OLDEST_API:
        return Check(name="engine", ok=False, detail=detail, fix="this engine is older than any that was tried")
    return Check(name="engine", ok=True, detail=detail)


_NOT_THERE = "not at the engine yet; it is pulled at the first start"


async def _image(engine: Engine, config: DockerConfig) -> Check:
    name = f"image {config.image}"
    try:
        image = await engine.image(config.image)
    except aiodocker.DockerError as error:
        if not is_missing(error):
            return Check(name=name, ok=False, detail=error.message, fix="give the name of an image")
        if config.pull == "never":
            fix = f"run `docker pull {config.image}`, or set pull to missing"
            return Check(name=name, ok=False, detail="not at the engine, and pull is never", fix=fix)
        return Check(name=name, ok=True, detail=_NOT_THERE)
    size = int(image.get("Size") or 0) >> 20
    return Check(name=name, ok=True, detail=f"{size} MiB, {image.get('Os')}/{image.get('Architecture')}")


async def _machine(config: DockerConfig) -> list[Check]:
    config = attrs.evolve(config, pull="never", git="unchecked", name=None, ports=())
    machine = DockerMachine(config)
    try:
        async with asyncio.timeout(MACHINE_SECONDS):
            try:
                await machine.start()
                await machine.execute(ExecRequest(argv=["true"], timeout=30))
                began = time.monotonic()
                await machine.execute(ExecRequest(argv=["true"], timeout=30))
                took = time.monotonic() - began
                git = await machine.execute(ExecRequest(argv=["git", "--version"], timeout=30))
                way = machine.channel_problem or "by the warm channel"
            finally:
                await machine.stop()
    except (GitMachineError, TimeoutError) as error:
        detail, _, fix = str(error).rpartition(": ")
        return [Check(name="container", ok=False, detail=detail or fix, fix=fix if detail else "")]
    return [
        Check(name="container", ok=True, detail=f"a command ran in {1000 * took:.1f} ms, {way}"),
        _git(git.stdout.strip(), config.image),
    ]


def _git(said: str, image: str) -> Check:
    if said.startswith("git version"):
        return Check(name="git in the image", ok=True, detail=said)
    fix = 'take an image with git, or set git = "install"'
    return Check(name="git in the image", ok=False, detail=f"{image} has none", fix=fix)
