"""Docker machines for tests; each is proven to leave nothing behind.

Time budget: no tests here; 1 s for each machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gitmachine import ExecRequest, ExecResult
from gitmachine_local_docker import DockerConfig, DockerMachine
from gitmachine_local_docker._gate import HostGate
from support.docker import Engine

PATIENCE_SECONDS = 90


@pytest.fixture(autouse=True)
def no_docker_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have nothing of the caller's own Docker settings in a test."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path_factory.mktemp("docker-config")))


class Making:
    """Makes machines on an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def config(self, **options: Any) -> DockerConfig:
        """Return a configuration for this run's Debian image (or busybox, without git), without a network."""
        image = options.pop("image", self.engine.debian)
        git = {"git": "unchecked"} if image == self.engine.busybox else {}
        return DockerConfig(**{"image": image, "pull": "never", "network": "none", **git, **options})

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[DockerMachine]:
        """Give a running machine, and see that nothing of it is left."""
        machine = DockerMachine(self.config(**options))
        await machine.start()
        container = machine.id
        try:
            yield machine
        finally:
            await machine.stop()
        assert container not in self.engine.containers()

    @staticmethod
    async def sh(machine: DockerMachine, script: str, **fields: Any) -> ExecResult:
        """Run a script in a machine."""
        return await machine.execute(ExecRequest(shell=script, **{"timeout": PATIENCE_SECONDS, **fields}))

    async def pause(self, container: str | None) -> None:
        """Pause a container as somebody else would, but while no process of it is half started: engines hang in that.

        A single command may have had more than one shell opened, of which it waits for one only.
        """
        assert container is not None
        async with HostGate(container).shut(PATIENCE_SECONDS):
            await asyncio.to_thread(self.engine.docker, "pause", container)

    @staticmethod
    async def eventually(condition: Callable[[], Any], what: str) -> Any:
        """Wait, within a generous deadline, until a condition is true (or awaits to something true)."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            assert time.monotonic() < deadline, f"it did not happen in {PATIENCE_SECONDS} s that {what}"
            await asyncio.sleep(0.05)


@pytest.fixture
def making(docker: Engine) -> Iterator[Making]:
    """Make machines on the machine's engine; nothing of this test is left there."""
    before = set(docker.containers())
    yield Making(docker)
    assert set(docker.containers()) <= before
