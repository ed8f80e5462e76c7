"""Machines, a remote and a session over them. Time budget: none of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine
from gitmachine.errors import MachineLostError
from gitmachine.execution import ExecRequest, Process
from gitmachine.machine import Capability, MachineState
from support.machines import FilesMachine, StreamMachine
from support.repos import make_remote


class PausingMachine(StreamMachine):
    """A stream machine that says it is paused; nothing is frozen."""

    provider = "pausing"
    capabilities = StreamMachine.capabilities | {Capability.PAUSE}

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.history: list[str] = []
        self.dead = False

    async def spawn(self, request: ExecRequest) -> Process:
        if self.dead:
            raise MachineLostError("somebody removed the machine", machine_id=self.id, provider=self.provider)
        return await super().spawn(request)

    async def pause(self) -> None:
        self.history.append("pause")
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        self.history.append("resume")
        self._state = MachineState.RUNNING


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return make_remote(tmp_path / "remote.git")


@pytest.fixture
def machine(tmp_path: Path) -> PausingMachine:
    return PausingMachine(tmp_path)


@pytest.fixture(params=[PausingMachine, FilesMachine], ids=["streams", "files"])
def any_machine(request: pytest.FixtureRequest, tmp_path: Path) -> FilesMachine:
    return request.param(tmp_path)


@pytest.fixture
async def make(remote: Path, machine: PausingMachine) -> AsyncIterator[Callable[..., AsyncGitMachine]]:
    """Make sessions on the sample remote; whatever still runs at the end is forced to stop."""
    made: list[AsyncGitMachine] = []

    def _make(given: FilesMachine | None = None, **keywords: Any) -> AsyncGitMachine:
        keywords = {"repository": f"file://{remote}", "session": "feature", **keywords}
        gm = AsyncGitMachine(given or machine, **keywords)
        made.append(gm)
        return gm

    yield _make
    for gm in made:
        if gm.state in {MachineState.RUNNING, MachineState.PAUSED}:
            await gm.stop(force=True)
