"""The kit on E2B machines, through the emulator: as it comes, and with its streams cut up and lumped together.

Time budget: 120 s.
"""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from gitmachine import Machine
from gitmachine.testing import MachineConformance
from gitmachine_e2b import E2BMachine
from providers.e2b.conftest import config_for

pytest_plugins = ["gitmachine.testing.plugin"]


class Emulated(MachineConformance):
    """Machines of an emulator; subclasses say how it misbehaves."""

    faults: tuple[tuple[str, dict], ...] = ()

    @pytest.fixture(autouse=True)
    def _emulated(self, emulator):
        self.emulator = emulator
        for kind, fields in self.faults:
            emulator.faults.add(kind, count=None, **fields)

    async def make_machine(self) -> E2BMachine:
        return E2BMachine(config_for(self.emulator))

    async def connect(self, machine_id: str) -> E2BMachine:
        return await E2BMachine.connect(machine_id, config_for(self.emulator))

    async def kill_machine(self, machine: Machine) -> None:
        request = urllib.request.Request(
            f"{self.emulator.api_url}/sandboxes/{machine.id}",
            method="DELETE",
            headers={"X-API-Key": self.emulator.api_key},
        )
        await asyncio.to_thread(lambda: urllib.request.urlopen(request).close())


class TestE2B(Emulated):
    pass
