"""Machine locks: between tasks, between processes, released by the kernel when a holder dies.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys

import pytest

from gitmachine.errors import StateError
from gitmachine.state import locks
from gitmachine.state.locks import MachineLock
from gitmachine.state.places import Places

LONG = 60.0


@pytest.fixture
def path():
    return Places.default().ensure().machine_lock("k1")


@pytest.fixture
def lock(path):
    return MachineLock(path)


HOLDER = """
import asyncio, sys
from pathlib import Path
from gitmachine.state.locks import MachineLock

async def main(path, kind, what):
    async with getattr(MachineLock(Path(path)), kind)(60, what):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("released", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def holder(path, kind, what):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


async def test_shared_holders_go_together(lock):
    async with lock.shared(0), lock.shared(0), MachineLock(lock.path).shared(0):
        pass


async def test_an_exclusive_holder_is_alone(lock):
    async with lock.exclusive(0, "pause"):
        for attempt in (lock.shared, lock.exclusive):
            with pytest.raises(StateError, match=rf"in use by pid {os.getpid()} \(pause\)"):
                async with attempt(0.05, "stop"):
                    pass
    async with lock.exclusive(0):
        pass


async def test_the_lock_is_released_when_the_body_raises(lock):
    with pytest.raises(LookupError):
        async with lock.exclusive(0):
            raise LookupError
    async with lock.exclusive(0):
        pass


async def test_a_waiting_task_gets_the_lock_when_it_is_released(lock):
    order = []
    async with lock.exclusive(0):

        async def wait():
            async with lock.exclusive(LONG):
                order.append("second")

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.05)
        order.append("first")
    await task
    assert order == ["first", "second"]


async def test_the_error_says_who_holds_it_what_for_and_how_long_we_waited(lock, path):
    with holder(path, "exclusive", "push") as child, pytest.raises(StateError) as caught:
        async with lock.shared(0.05, "exec"):
            pass
    assert caught.value.holder == f"pid {child.pid} (push)"
    assert str(caught.value).startswith(f"waited 0.05 s to exec: the machine is in use by pid {child.pid} (push)")


@pytest.mark.requires("linux")
async def test_a_holder_that_left_is_not_named_instead_of_one_that_stayed(lock, path):
    with holder(path, "shared", "logs") as stays:
        async with lock.shared(0, "exec"):
            pass
        with pytest.raises(StateError) as caught:
            async with lock.exclusive(0.05, "pause"):
                pass
    assert caught.value.holder == f"pid {stays.pid} (logs)"


async def test_the_kernel_releases_the_lock_of_a_killed_holder(lock, path):
    with holder(path, "exclusive", "stop") as child:
        waiting = asyncio.ensure_future(lock.exclusive(LONG, "connect").__aenter__())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        child.send_signal(signal.SIGKILL)
        await waiting
        with pytest.raises(StateError, match=rf"pid {os.getpid()} \(connect\)"):
            async with lock.shared(0):
                pass


async def test_processes_share(lock, path):
    with holder(path, "shared", "exec"):
        async with lock.shared(0):
            pass
        with pytest.raises(StateError):
            async with lock.exclusive(0):
                pass


async def test_a_flow_of_shared_holders_does_not_keep_an_exclusive_one_out(lock, path):
    done = asyncio.Event()
    counts = [0] * 4

    async def flow(number):
        while not done.is_set():
            async with MachineLock(path).shared(LONG):
                counts[number] += 1
                await asyncio.sleep(0.02)

    flows = [asyncio.ensure_future(flow(number)) for number in range(4)]
    try:
        await asyncio.sleep(0.05)
        async with lock.exclusive(LONG, "pause"):
            before = list(counts)
            await asyncio.sleep(0.05)
            assert counts == before
    finally:
        done.set()
        await asyncio.gather(*flows)


async def test_a_shared_lock_inside_a_shared_lock_is_had_though_somebody_waits(lock, monkeypatch):
    monkeypatch.setattr(locks, "COURTESY_SECONDS", 0.1)
    async with lock.shared(0):
        waiting = asyncio.ensure_future(lock.exclusive(LONG).__aenter__())
        await asyncio.sleep(0.05)
        async with lock.shared(LONG):
            assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with lock.exclusive(0):
        pass


async def test_a_cancelled_wait_leaves_nothing_locked(lock):
    async with lock.exclusive(0):
        task = asyncio.ensure_future(lock.exclusive(LONG).__aenter__())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with lock.exclusive(0), contextlib.AsyncExitStack():
        pass
    async with lock.shared(0):
        pass


async def test_a_removed_lock_file_locks_nobody_in_or_out(lock, path):
    async with lock.exclusive(0):
        path.unlink()
    async with lock.exclusive(0):
        with pytest.raises(StateError):
            async with lock.shared(0):
                pass


async def test_many_tasks_never_overlap(path):
    inside = 0

    async def change():
        nonlocal inside
        async with MachineLock(path).exclusive(LONG):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(change() for _ in range(30)))


async def test_the_file_is_private_small_and_kept(lock, path):
    for _ in range(500):
        async with lock.shared(0, "a long description of what is done " * 3):
            pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_size < 2 * locks.MAX_NOTE_BYTES


async def test_a_place_where_no_lock_can_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        async with MachineLock(tmp_path / "file" / "k.lock").shared(0):
            pass


async def test_rubbish_in_the_file_is_no_obstacle(lock, path):
    async with lock.shared(0):
        path.write_bytes(b'\xff\0[]\n{"pid": "x"}\n7\n')
        with pytest.raises(StateError, match="in use by"):
            async with lock.exclusive(0):
                pass


async def test_passing_by_waits_for_whoever_holds_the_lock_alone_and_holds_nothing(tmp_path):
    lock = MachineLock(tmp_path / "a.lock")
    await lock.passed(5)
    async with lock.shared(5):
        await lock.passed(5)
    async with lock.exclusive(5, what="pause"):
        with pytest.raises(StateError, match="pause"):
            await lock.passed(0.05, what="exec")
    await lock.passed(5)
    async with lock.exclusive(0.05):
        pass
