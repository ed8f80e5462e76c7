"""The kit on the local provider, in its sandbox and without one. Time budget: 120 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import Machine
from gitmachine.testing import MachineConformance
from gitmachine_local import LocalConfig, LocalMachine
from gitmachine_local._processes import end

pytest_plugins = ["gitmachine.testing.plugin"]


class Local(MachineConformance):
    config = LocalConfig()

    async def make_machine(self) -> LocalMachine:
        return LocalMachine(self.config)

    async def connect(self, machine_id: str) -> LocalMachine:
        return await LocalMachine.connect(machine_id, self.config)

    async def kill_machine(self, machine: Machine) -> None:
        assert isinstance(machine, LocalMachine)
        assert machine._record is not None
        await asyncio.to_thread(end, machine._record.first)


@pytest.mark.requires("sandbox")
class TestLocal(Local):
    pass


class TestLocalWithoutIsolation(Local):
    config = LocalConfig(isolation="none")
