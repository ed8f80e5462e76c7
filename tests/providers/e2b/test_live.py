"""The kit on E2B's own service; only with a key, which costs money. docs/e2b.md says how to run it.

Time budget: none without a key; some minutes with one.
"""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from gitmachine import Machine
from gitmachine.testing import MachineConformance
from gitmachine_e2b import E2BConfig, E2BMachine
from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b.doctor import doctor

pytest_plugins = ["gitmachine.testing.plugin"]
pytestmark = pytest.mark.timeout(1200)

if not os.environ.get("E2B_API_KEY"):
    pytest.skip("E2B_API_KEY is not set: E2B's own service is not tried", allow_module_level=True)


class TestLive(MachineConformance):
    patience = 120.0
    flood_bytes = 8 << 20
    port_server = "exec python3 -m http.server {port}"
    limits: ClassVar = {
        "can-reach-ports": "the kit speaks plain HTTP to a port, E2B's ports are reached by HTTPS",
        "file-full-disk": "nothing here fills a sandbox's disk",
    }

    async def make_machine(self) -> E2BMachine:
        return E2BMachine(E2BConfig(timeout=600))

    async def connect(self, machine_id: str) -> E2BMachine:
        return await E2BMachine.connect(machine_id, E2BConfig(timeout=600))

    async def kill_machine(self, machine: Machine) -> None:
        config = E2BConfig()
        api = ControlPlane(config.api, config.api_key or "")
        try:
            await api.kill(machine.id or "")
        finally:
            await api.close()


async def test_the_key_is_accepted():
    assert all(check.ok for check in await doctor())
