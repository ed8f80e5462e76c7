"""What every run of the kit over a real sshd has in common."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from gitmachine import Machine
from gitmachine.testing.kit.base import KitBase
from gitmachine_ssh import SSHConfig, SSHMachine
from support.sshd import client_key, serving_sshd


class Ssh(KitBase):
    host_address = "127.0.0.1"
    user = "root"
    sftp = True

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls):
        place = Path(tempfile.mkdtemp(prefix="gmssh-", dir="/tmp"))
        place.chmod(0o755)
        options = {"SetEnv": f"HOME={place}"} if cls.user == "root" else {}
        with serving_sshd(sftp=cls.sftp, options=options) as server:
            (place / "known_hosts").write_text(server.known_hosts())
            cls.server, cls.place = server, place
            yield
        shutil.rmtree(place, ignore_errors=True)

    def config(self) -> SSHConfig:
        return SSHConfig(
            host=self.server.address,
            port=self.server.port,
            user=self.user,
            identity_file=(str(client_key()),),
            known_hosts=(str(self.place / "known_hosts"),),
            config_file=None,
            agent=False,
        )

    async def make_machine(self) -> SSHMachine:
        return SSHMachine(self.config())

    async def connect(self, machine_id: str) -> SSHMachine:
        return await SSHMachine.connect(machine_id, self.config())

    async def kill_machine(self, machine: Machine) -> None:
        directory = Path(machine.workdir).parent
        word = f"GITMACHINE_MACHINE={machine.id}\0".encode()
        shutil.rmtree(directory)
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if word in entry.read_bytes():
                    os.kill(int(entry.parent.name), signal.SIGKILL)
