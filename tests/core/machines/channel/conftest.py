"""Pools over shells of this host, as root and as nobody; every one is closed, and what commands left is killed.

Time budget: no tests here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.machines.channel import Receiver, WarmPool, kill_script, machine_mark
from gitmachine.machines.channel.slot import SlotState
from gitmachine.testing import FakeMachine
from support.channels import SHELLS, ShellDuplex, with_shell

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Rig:
    """A pool, what it opened, and short ways to use it."""

    def __init__(self, shell: Sequence[str], home: str, **options) -> None:
        self.shell = tuple(shell)
        self.home = home
        self.mark = machine_mark(home)
        self.duplexes: list[ShellDuplex] = []
        self.plain: list[ExecRequest] = []
        self.refuse: Exception | None = None
        self.env = {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8"}
        self._machine = FakeMachine()
        self.pool = WarmPool(self.connect, **{"plain": self.spawn_plain, "mark": self.mark, **options})

    async def connect(self, receiver: Receiver) -> ShellDuplex:
        if self.refuse is not None:
            raise self.refuse
        duplex = await ShellDuplex.start(receiver, self.shell, self.env)
        self.duplexes.append(duplex)
        return duplex

    async def spawn_plain(self, request: ExecRequest) -> Process:
        self.plain.append(request)
        if self._machine.id is None:
            await self._machine.start()
        return await self._machine.spawn(attrs.evolve(request, cwd=request.cwd or self.home))

    async def sh(self, script: str, *, cwd: str | None = None, env=None, **fields) -> ExecResult:
        await self.settled()
        request = ExecRequest(shell=script, **{"timeout": 60, **fields})
        return await self.pool.execute(request, cwd=cwd or self.home, env=env or {})

    async def run(self, *argv: str, cwd: str | None = None, env=None, **fields) -> ExecResult:
        await self.settled()
        request = ExecRequest(argv=list(argv), **{"timeout": 60, **fields})
        return await self.pool.execute(request, cwd=cwd or self.home, env=env or {})

    async def settled(self) -> None:
        """Wait for shells that are still looking back: on a loaded machine the pool would open another instead."""
        await self.until(
            lambda: not any(slot.state is SlotState.SETTLING for slot in self.slots._all), "each shell has settled"
        )

    async def spawn(self, script: str, **fields) -> Process:
        return await self.pool.spawn(ExecRequest(shell=script, **fields), cwd=self.home, env={})

    async def finish(self, process: Process, script: str = "") -> ExecResult:
        return await run_process(process, ExecRequest(shell=script or "true", timeout=60))

    @property
    def slots(self):
        return self.pool._slots

    def survivors(self, mark: str | None = None) -> list[str]:
        """Return the command lines of living processes that carry the machine's mark."""
        return [line for _, line in marked(mark or self.mark)]

    async def until(self, condition, what: str) -> None:
        deadline = asyncio.get_running_loop().time() + 30
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"it did not happen that {what}"
            await asyncio.sleep(0.01)

    async def until_async(self, condition, what: str) -> None:
        deadline = asyncio.get_running_loop().time() + 30
        while not await condition():
            assert asyncio.get_running_loop().time() < deadline, f"it did not happen that {what}"

    async def close(self) -> None:
        script = kill_script(self.mark)
        await asyncio.to_thread(subprocess.run, ["sh", "-c", script], check=True, timeout=60)
        await self.pool.close()
        if self._machine.id is not None:
            await self._machine.stop()


def marked(mark: str) -> list[tuple[int, str]]:
    """Return the living processes that carry a mark, found by other means than the shell scripts."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = (entry / "limits").read_text().splitlines()
            limits = [line.split() for line in lines if line.startswith("Max file locks")]
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0].decode()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            if limits and limits[0][3].startswith(mark) and len(limits[0][3]) == 18 and state not in "ZX":
                found.append((int(entry.name), line))
    return found


def shell_argv(name: str) -> tuple[str, ...]:
    user, _, shell = name.rpartition("-")
    return (*NOBODY, *SHELLS[shell]) if user == "nobody" else SHELLS[shell]


@pytest.fixture
async def make_rig(open_path):
    rigs = []
    home = open_path / "it's home"
    home.mkdir()

    def make(name: str = "dash", **options) -> Rig:
        argv = shell_argv(name)
        if name.startswith("nobody"):
            if os.geteuid() != 0:
                pytest.skip("only root can become nobody")
            shutil.chown(home, 65534, 65534)
        rig = Rig(argv, str(home), **options)
        rig.env["PATH"] = with_shell(rig.env["PATH"], SHELLS[name.rpartition("-")[2]], open_path / "shell")
        if name.startswith("nobody"):
            rig.env["PATH"] = f"{open_path}/shell:/usr/local/bin:/usr/bin:/bin"  # nothing that only root may search
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        await rig.close()


@pytest.fixture(params=["dash", "bash", "busybox", "nobody-dash"])
def rig(request, make_rig) -> Rig:
    return make_rig(request.param)


@pytest.fixture
def dash(make_rig) -> Rig:
    return make_rig("dash")
