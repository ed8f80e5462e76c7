"""The kit on the machine that it brings along: with everything, with nothing but commands and files, on busybox.

Time budget: 120 s.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from gitmachine.machine import Machine
from gitmachine.testing import FakeMachine, MachineConformance

pytest_plugins = ["gitmachine.testing.plugin"]


class Fake(MachineConformance):
    host_address = "127.0.0.1"

    async def make_machine(self) -> FakeMachine:
        return FakeMachine()

    async def connect(self, machine_id: str) -> Machine:
        return await FakeMachine.connect(machine_id)

    async def kill_machine(self, machine: Machine) -> None:
        assert isinstance(machine, FakeMachine)
        await machine.die()

    async def fill_disk(self, machine: Machine) -> None:
        assert isinstance(machine, FakeMachine)
        machine.free_bytes = 1000


class TestFake(Fake):
    pass


class TestFakeWithoutCapabilities(Fake):
    """What is not declared is refused, and everything else works without it: git through bundles, too."""

    async def make_machine(self) -> FakeMachine:
        return FakeMachine(capabilities=())


for behaviour in MachineConformance.behaviours().values():
    if behaviour.group in {"background", "environment", "pausing", "timeouts"}:  # the same code with capabilities
        setattr(TestFakeWithoutCapabilities, MachineConformance.method_of(behaviour.id), None)


@pytest.mark.requires("busybox")
class TestFakeOnBusybox(Fake):
    """A small image: busybox for everything, and no git."""

    limits: ClassVar[Mapping[str, str]] = {"git": "there is no git in the image"}
    port_server = "exec httpd -f -p {port}"

    @pytest.fixture(autouse=True)
    def image(self, tmp_path: Path) -> None:
        busybox = shutil.which("busybox")
        assert busybox is not None
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout
        for name in names.split():
            (tmp_path / name).symlink_to(busybox)
        self.path = str(tmp_path)

    async def make_machine(self) -> FakeMachine:
        return FakeMachine(path=self.path)
