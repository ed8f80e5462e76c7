"""The kit on the machine that the kit brings along. Time budget: 40 s."""

from __future__ import annotations

from gitmachine.testing import FakeMachine, MachineConformance

pytest_plugins: list[str] = []


class TestFake(MachineConformance):
    async def make_machine(self) -> FakeMachine:
        return FakeMachine()

    async def connect(self, machine_id: str) -> FakeMachine:
        return await FakeMachine.connect(machine_id)

    async def kill_machine(self, machine: FakeMachine) -> None:
        await machine.die()

    async def fill_disk(self, machine: FakeMachine) -> None:
        machine.free_bytes = 1000
