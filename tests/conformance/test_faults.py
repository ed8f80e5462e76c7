"""Faults on demand, and what GitMachine makes of them: an error within seconds, never a wait, nothing lost.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitmachine import AsyncGitMachine
from gitmachine.errors import (
    GitMachineError,
    InvalidStateError,
    MachineFileError,
    MachineLostError,
    MachineStartError,
    QuotaError,
)
from gitmachine.execution import ExecRequest
from gitmachine.git.packs import MAX_PACK_BYTES
from gitmachine.machine import MachineState
from gitmachine.machines.managed import Deadlines, ManagedMachine
from gitmachine.state.places import Places
from gitmachine.testing import FakeMachine, FaultyMachine
from support.repos import add_commit, git, make_remote, show

SHORT = Deadlines(start=0.3, pause=0.3, resume=0.3, stop=0.3, files=0.3, spawn=0.3, cancel=0.3)


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[FaultyMachine]:
    machine = FaultyMachine(FakeMachine(root=tmp_path))
    yield machine
    await machine.stop()
    assert not list(tmp_path.glob("fake-machine-*"))


def sh(script: str, **fields: object) -> ExecRequest:
    return ExecRequest(shell=script, **fields)


async def test_without_a_fault_it_is_the_machine_inside(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    assert (await machine.execute(sh("cat", stdin=b"in"))).stdout == "in"
    await machine.write_file("f", b"x")
    assert (await machine.read_file("f"), await machine.list_files()) == (b"x", ["f"])
    await machine.pause()
    await machine.resume()
    await machine.terminate_processes()
    assert faulty.calls["write_file"] == 1
    assert machine.id == faulty.inner.id
    assert (machine.provider, machine.capabilities) == ("fake", faulty.inner.capabilities)


async def test_a_cut_in_mid_output_loses_the_command_and_not_the_machine_inside(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    faulty.cut_output(after_bytes=10)
    seen: list[bytes] = []
    with pytest.raises(MachineLostError, match="cut"):
        await machine.execute(sh("while :; do echo some output; done", on_stdout_bytes=seen.append))
    assert b"".join(seen) == b"some outpu"
    assert (await faulty.inner.execute(sh("echo on"))).stdout == "on\n"


async def test_a_cut_takes_every_stream_of_a_live_process(faulty: FaultyMachine):
    await faulty.start()
    faulty.cut_output(after_bytes=3)
    process = await faulty.spawn(sh("echo output; sleep 600"))
    with pytest.raises(MachineLostError):
        async for _ in process.stdout:
            pass
    with pytest.raises(MachineLostError):
        await process.wait()
    await process.kill()


async def test_death_ends_what_runs_and_refuses_what_comes(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    command = asyncio.ensure_future(machine.execute(sh("echo x > started; sleep 600")))
    async with asyncio.timeout(30):
        while "started" not in await machine.list_files():
            await asyncio.sleep(0.01)
    await faulty.die("by accident")
    async with asyncio.timeout(30):
        with pytest.raises(MachineLostError, match="by accident"):
            await command
    with pytest.raises(MachineLostError):
        await machine.read_file("started")
    assert machine.state is MachineState.STOPPED


async def test_the_machine_dies_at_the_call_that_was_chosen(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    faulty.die_at("write_file", skip=2)
    await machine.write_file("1", b"")
    await machine.write_file("2", b"")
    with pytest.raises(MachineLostError):
        await machine.write_file("3", b"")


@pytest.mark.parametrize("operation", ["pause", "read_file", "write_file", "list_files"])
async def test_no_answer_is_a_lost_machine_at_the_deadline(faulty: FaultyMachine, operation: str):
    calm = ManagedMachine(faulty)
    await calm.start()
    faulty.hang(operation)  # type: ignore[arg-type]
    machine = ManagedMachine(faulty, deadlines=SHORT)
    arguments = {"read_file": ("x",), "write_file": ("x", b""), "list_files": (), "pause": ()}[operation]
    async with asyncio.timeout(30):
        with pytest.raises(MachineLostError, match=operation):
            await getattr(machine, operation)(*arguments)


async def test_a_start_without_an_answer_is_a_start_that_failed(faulty: FaultyMachine):
    faulty.hang("start")
    machine = ManagedMachine(faulty, deadlines=SHORT)
    with pytest.raises(MachineStartError, match="did not start"):
        await machine.start()


async def test_a_chosen_error_comes_through(faulty: FaultyMachine):
    await faulty.start()
    faulty.fail("list_files", QuotaError("too many requests"))
    with pytest.raises(QuotaError, match="too many requests"):
        await faulty.list_files()
    assert await faulty.list_files() == []


async def test_a_slow_answer_is_an_answer(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    faulty.slow("write_file", 0.2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await machine.write_file("f", b"x")
    assert loop.time() - began >= 0.2
    assert await machine.read_file("f") == b"x"


async def test_a_full_disk_is_no_space_left_until_there_is_room(faulty: FaultyMachine):
    machine = ManagedMachine(faulty)
    await machine.start()
    await machine.write_file("f", b"old")
    faulty.fill_disk()
    with pytest.raises(MachineFileError) as caught:
        await machine.write_file("f", b"new")
    assert caught.value.errno == errno.ENOSPC
    faulty.fill_disk(None)
    assert await machine.read_file("f") == b"old"
    await machine.write_file("f", b"new")
    assert await machine.read_file("f") == b"new"


# Sessions


async def session(machine: FaultyMachine, remote: Path) -> AsyncGitMachine:
    gm = AsyncGitMachine(machine, repository=str(remote), session="feature")
    await gm.start()
    return gm


async def test_a_machine_that_dies_after_a_pause_loses_nothing_of_what_was_paused(
    faulty: FaultyMachine, tmp_path: Path
):
    gm = await session(faulty, make_remote(tmp_path / "remote.git"))
    await gm.run("echo precious > p.txt", check=True)
    await gm.pause()
    await gm.resume()
    await faulty.die()
    async with asyncio.timeout(60):
        with pytest.raises(MachineLostError):
            await gm.run("true")
        with pytest.raises((MachineLostError, InvalidStateError)):
            await gm.stop()
    bundles = list(Places.default().bundles.rglob("*.bundle"))
    assert bundles
    git("clone", "-q", "-b", "feature", bundles[0], tmp_path / "clone")
    assert (tmp_path / "clone" / "p.txt").read_text() == "precious\n"


async def test_a_connection_that_is_cut_while_the_work_comes_out_is_an_error_and_destroys_nothing(
    faulty: FaultyMachine, tmp_path: Path
):
    remote = make_remote(tmp_path / "remote.git")
    gm = await session(faulty, remote)
    await gm.run("echo precious > p.txt && head -c 300000 /dev/urandom > large", check=True)
    sha = await gm.commit("work")
    faulty.cut_output(after_bytes=100, times=1)
    async with asyncio.timeout(60):
        with pytest.raises(GitMachineError):
            await gm.stop()
    inside = faulty.inner
    assert inside.state is MachineState.RUNNING
    found = await inside.execute(ExecRequest(argv=["git", "-C", gm.path, "rev-parse", "feature"]))
    assert found.stdout.strip() == sha
    if gm.state is MachineState.RUNNING:
        receipt = await gm.stop()
        assert receipt is not None
        assert receipt.pushed
        assert show(remote, "feature:p.txt") == "precious"


@pytest.mark.parametrize("operation", ["execute", "spawn"])
async def test_a_machine_that_dies_while_the_repository_goes_in_fails_the_start_and_leaves_nothing(
    operation, faulty: FaultyMachine, tmp_path: Path
):
    # A small repository is the input of a command; a large one comes by git's protocol.
    remote = make_remote(tmp_path / "remote.git")
    if operation == "spawn":
        add_commit(remote, "main", {"large": os.urandom(MAX_PACK_BYTES + 1)})
    faulty.die_at(operation)
    gm = AsyncGitMachine(faulty, repository=str(remote), session="feature")
    async with asyncio.timeout(60):
        with pytest.raises(GitMachineError):
            await gm.start()
    assert not list(tmp_path.glob("fake-machine-*"))


async def test_a_full_disk_while_the_repository_goes_in_fails_the_start_with_the_reason(tmp_path: Path):
    machine = FaultyMachine(FakeMachine(root=tmp_path, capabilities=()))
    machine.fill_disk()
    gm = AsyncGitMachine(machine, repository=str(make_remote(tmp_path / "remote.git")), session="feature")
    async with asyncio.timeout(60):
        with pytest.raises(GitMachineError, match="no space left"):
            await gm.start()
    assert not list(tmp_path.glob("fake-machine-*"))
