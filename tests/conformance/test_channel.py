"""The kit on machines whose commands go through the warm channel: all of it on dash, what a shell can spoil on others.

Time budget: 90 s.
"""

from __future__ import annotations

import pytest

from gitmachine.machine import Machine
from gitmachine.testing import MachineConformance
from support.channels import SHELLS, ChannelMachine

pytest_plugins = ["gitmachine.testing.plugin"]


class Channel(MachineConformance):
    shell = SHELLS["dash"]

    async def make_machine(self) -> ChannelMachine:
        machine = ChannelMachine()
        machine.shell = self.shell  # type: ignore[misc]  # of this one machine
        return machine

    async def connect(self, machine_id: str) -> Machine:
        return await ChannelMachine.connect(machine_id)

    async def kill_machine(self, machine: Machine) -> None:
        assert isinstance(machine, ChannelMachine)
        await machine.die()

    async def fill_disk(self, machine: Machine) -> None:
        assert isinstance(machine, ChannelMachine)
        machine.free_bytes = 1000


@pytest.mark.requires("dash", "linux")
class TestChannelOnDash(Channel):
    pass


@pytest.mark.requires("bash", "linux")
class TestChannelOnBash(Channel):
    shell = SHELLS["bash"]


@pytest.mark.requires("busybox", "linux")
class TestChannelOnBusybox(Channel):
    shell = SHELLS["busybox"]


for behaviour in MachineConformance.behaviours().values():
    if behaviour.group not in {"commands", "output", "environment", "background", "timeouts"}:  # the same code
        setattr(TestChannelOnBash, MachineConformance.method_of(behaviour.id), None)
        setattr(TestChannelOnBusybox, MachineConformance.method_of(behaviour.id), None)
