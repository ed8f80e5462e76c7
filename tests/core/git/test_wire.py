"""The wire: deadlines on bytes moved, and no end that waits for one that has gone.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import CloneError, GitError
from gitmachine.execution import ExecRequest
from gitmachine.git.host import GitCall, HostGit, Limits
from gitmachine.git.wire import fetch_from, serve
from support.bench import QUICK
from support.machines import StreamMachine
from support.repos import make_remote, tip

PATIENCE = 60


@pytest.fixture
async def machine(tmp_path):
    made = StreamMachine(tmp_path)
    await made.start()
    yield made
    await made.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def spawn(machine, script):
    return await machine.spawn(ExecRequest(shell=script, open_stdin=True))


async def test_a_process_in_the_machine_that_moves_nothing_is_ended(machine, tmp_path):
    make_remote(tmp_path / "r.git", commits=1)
    host = HostGit(limits=Limits(idle_seconds=1))
    call = GitCall(args=("upload-pack", str(tmp_path / "r.git")))
    process = await spawn(machine, "sleep 1000")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GitError, match="moved nothing for 1 s"):
            await serve(host, call, process)
        assert await process.wait() == 137


async def test_a_server_in_the_machine_that_moves_nothing_is_ended(machine, tmp_path):
    target = make_remote(tmp_path / "r.git", commits=1)
    host = HostGit(limits=Limits(idle_seconds=1))
    process = await spawn(machine, "sleep 1000")

    def call(fd):
        return GitCall(args=("fetch", f"fd::{fd}"), git_dir=target, protocols=("fd",), fds=(fd,), idle_seconds=30)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GitError, match="moved nothing for 1 s"):
            await fetch_from(host, call, process)
        assert await process.wait() == 137


@pytest.mark.parametrize(
    "script", ["exit 3", "echo garbage; exit 0", "echo garbage; sleep 1000", "exec >&-; sleep 1000"]
)
async def test_a_server_in_the_machine_that_ends_ends_git_on_the_host(machine, tmp_path, script):
    target = make_remote(tmp_path / "r.git", commits=1)
    host = HostGit(limits=Limits(idle_seconds=20))
    process = await spawn(machine, script)

    def call(fd):
        options = {"idle_seconds": 20, "check": False, "config": ("protocol.version=0",)}
        return GitCall(args=("fetch", f"fd::{fd}"), git_dir=target, protocols=("fd",), fds=(fd,), **options)

    async with asyncio.timeout(PATIENCE):
        result, _ = await fetch_from(host, call, process)
        assert result.exit_code != 0
        await process.kill()
        await process.wait()


async def test_a_server_on_the_host_that_ends_ends_the_process_in_the_machine(machine, tmp_path):
    host = HostGit(limits=Limits(idle_seconds=30))
    process = await spawn(machine, "cat >/dev/null; exit 5")
    async with asyncio.timeout(PATIENCE):
        end = await serve(host, GitCall(args=("upload-pack", str(tmp_path / "missing"))), process)
    assert end.exit_code == 5


async def test_a_killed_process_in_the_machine_is_an_error_at_once(bench, tmp_path):
    one = await bench(make_remote(tmp_path / "r.git", commits=5), limits=attrs.evolve(QUICK, idle_seconds=60))
    await one.transport.open()
    original = one.machine.spawn

    async def killed(request):
        process = await original(request)
        await process.kill()
        return process

    one.machine.spawn = killed
    began = time.monotonic()
    with pytest.raises(CloneError):
        await one.transport.populate(one.machine, one.path, branch="feat")
    assert time.monotonic() - began < PATIENCE


async def test_more_than_the_limit_is_not_taken_from_a_machine(bench, tmp_path):
    one = await bench(make_remote(tmp_path / "r.git", commits=5), limits=attrs.evolve(QUICK, max_pack_bytes=50_000))
    await one.begin()
    await one.sh("head -c 300000 /dev/urandom > big")
    await one.commit("new.txt")
    with pytest.raises(GitError, match="sent more than 50000 bytes"):
        await one.collect()


async def test_a_cancelled_transfer_leaves_nothing_running_or_open(bench, tmp_path):
    one = await bench(make_remote(tmp_path / "r.git", commits=5))
    await one.transport.open()
    before = open_files()
    original = one.machine.spawn
    started = asyncio.Event()

    async def slow(request):
        started.set()
        return await original(ExecRequest(shell="sleep 1000", open_stdin=True))

    one.machine.spawn = slow
    task = asyncio.ensure_future(one.transport.populate(one.machine, one.path, branch="feat"))
    await started.wait()
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for process in one.machine.live:
        assert await process.wait() in (0, 137)
        await process.end()
    deadline = time.monotonic() + PATIENCE
    while open_files() > before and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert open_files() <= before
    one.machine.spawn = original
    assert (await one.begin()).start_sha == tip(tmp_path / "r.git", "main")
