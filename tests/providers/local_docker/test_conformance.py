"""The kit on a real engine: all of it with Debian, as root and as an ordinary user; with busybox, which has no git,
what a shell has to do with.

Time budget: 150 s.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import ClassVar

import pytest

from gitmachine import Machine
from gitmachine.testing import MachineConformance
from gitmachine.testing.kit.background import BackgroundBehaviours
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.commands import CommandBehaviours
from gitmachine.testing.kit.environment import EnvironmentBehaviours
from gitmachine.testing.kit.files import FileBehaviours
from gitmachine.testing.kit.output import OutputBehaviours
from gitmachine.testing.kit.runs import RunBehaviours
from gitmachine.testing.kit.timeouts import TimeoutBehaviours
from gitmachine_local_docker import DockerConfig, DockerMachine
from support import docker as docker_services

pytest_plugins = ["gitmachine.testing.plugin"]
pytestmark = pytest.mark.requires("docker")

SERVER = """exec perl -MIO::Socket::INET -e '
my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => {port}, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) {{ my $l = <$c>; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nhi"; close $c }}'"""


class Docker(KitBase):
    options: ClassVar[dict[str, object]] = {}
    image = "debian"
    port_server = SERVER

    @pytest.fixture(autouse=True)
    def _engine(self, docker: docker_services.Engine) -> None:
        self.engine = docker

    def config(self) -> DockerConfig:
        return DockerConfig(image=getattr(self.engine, self.image), pull="never", **self.options)

    async def make_machine(self) -> DockerMachine:
        return DockerMachine(self.config())

    async def connect(self, machine_id: str) -> DockerMachine:
        return await DockerMachine.connect(machine_id, self.config())

    async def kill_machine(self, machine: Machine) -> None:
        argv = ["docker", "kill", str(machine.id)]
        await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True, timeout=60)


class TestDebianAsRoot(Docker, MachineConformance):
    pass


class TestDebianAsUser(Docker, MachineConformance):
    options: ClassVar[dict[str, object]] = {"user": "user"}


class TestBusybox(
    Docker,
    CommandBehaviours,
    OutputBehaviours,
    EnvironmentBehaviours,
    BackgroundBehaviours,
    TimeoutBehaviours,
    FileBehaviours,
    RunBehaviours,
):
    image = "busybox"
    options: ClassVar[dict[str, object]] = {"git": "unchecked"}
