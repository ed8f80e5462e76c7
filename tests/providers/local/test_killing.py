"""Timeouts and cancellations kill whole process trees; the clock stands still during a pause.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from gitmachine import ExecRequest
from gitmachine.errors import CommandTimeoutError

pytestmark = pytest.mark.requires("sandbox")

DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvpe("env", ["env", "-i", "/bin/sleep", "7654321"], {})
    os._exit(0)
os.wait()
time.sleep(1000)
"""

TREES = {
    "plain": "sleep 7654321 & sleep 7654321",
    "setsid": "setsid sleep 7654321 & sleep 1000",
    "orphan": "(setsid sleep 7654321 &) ; sleep 1000",
    "env -i": "(setsid env -i /bin/sleep 7654321 >/dev/null 2>&1 </dev/null &) ; sleep 1000",
    "deaf": "trap '' TERM INT HUP; sh -c \"trap '' TERM INT HUP; sleep 7654321; sleep 7654321\" & sleep 1000",
    "stopped": "sleep 7654321 & kill -STOP $!; sleep 1000",
    "double fork": f"python3 -c '{DOUBLE_FORK}'",
    "spawner": "while :; do setsid sleep 7654321 >/dev/null 2>&1 </dev/null & sleep 0.001; done",
}


@pytest.fixture
def nap():
    """The argument of a sleep that is this test's own: without a sandbox the processes of all tests are seen."""
    return str(random.randrange(10**6, 10**8))


async def sleepers(machine, nap):
    """Count the living processes that sleep for `nap`."""
    result = await machine.execute(ExecRequest(argv=["ps", "ax", "-o", "stat=,args="]))
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    return sum(
        row[1] in (f"sleep {nap}", f"/bin/sleep {nap}") and not row[0].startswith("Z") for row in rows if len(row) == 2
    )


@pytest.mark.parametrize("tree", TREES)
async def test_a_timeout_kills_every_descendant(machine, helpers, nap, tree):
    with pytest.raises(CommandTimeoutError) as caught:
        await helpers.sh(machine, f"echo so far; {TREES[tree].replace('7654321', nap)}", timeout=1.2)
    assert caught.value.result.timed_out
    assert caught.value.result.exit_code == 137
    assert caught.value.result.stdout == "so far\n"

    async def gone():
        return await sleepers(machine, nap) == 0

    await helpers.eventually(gone, f"the end of {tree}")


async def test_a_timeout_leaves_other_commands_alone(machine, helpers, nap):
    await helpers.sh(machine, f"(setsid sleep {nap} >/dev/null 2>&1 &)")
    other = asyncio.ensure_future(helpers.sh(machine, "while [ ! -e go ]; do sleep 0.01; done; echo alive", timeout=60))
    with pytest.raises(CommandTimeoutError):
        await helpers.sh(machine, "sleep 1000", timeout=0.2)
    assert await sleepers(machine, nap) == 1
    await machine.write_file("go", "")
    assert (await other).stdout == "alive\n"


async def test_a_cancelled_command_dies_with_its_tree(machine, helpers, nap):
    task = asyncio.ensure_future(helpers.sh(machine, TREES["env -i"].replace("7654321", nap)))

    async def started():
        return await sleepers(machine, nap) == 1

    await helpers.eventually(started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def gone():
        return await sleepers(machine, nap) == 0

    await helpers.eventually(gone)


async def test_cancelling_at_any_moment_leaves_the_machine_usable(machine, helpers, nap):
    for turn in range(40):
        task = asyncio.ensure_future(helpers.sh(machine, f"sleep {nap}"))
        for _ in range(turn % 8):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (await helpers.sh(machine, "echo fine", timeout=60)).stdout == "fine\n"

    async def gone():
        return await sleepers(machine, nap) == 0

    await helpers.eventually(gone)


async def test_kill_ends_a_live_process(machine):
    process = await machine.spawn(ExecRequest(shell="echo up; sleep 1000"))
    stdout = process.stdout
    assert await anext(stdout) == b"up\n"
    await process.kill()
    assert await process.wait() == 137
    assert [chunk async for chunk in stdout] == []
    assert [chunk async for chunk in process.stderr] == []
    await process.kill()


async def test_terminate_processes_kills_what_commands_left_behind(machine, helpers, nap):
    await helpers.sh(machine, f"(setsid env -i /bin/sleep {nap} >/dev/null 2>&1 </dev/null &); sleep {nap} &")
    running = asyncio.ensure_future(helpers.sh(machine, f"sleep {nap}"))

    async def three():
        return await sleepers(machine, nap) == 3

    await helpers.eventually(three)
    await machine.terminate_processes()
    assert await sleepers(machine, nap) == 0
    assert (await running).exit_code == 137


async def test_the_clock_of_a_timeout_stands_still_during_a_pause(machine, helpers, nap):
    script = "touch up; while [ ! -e go ]; do sleep 0.01; done; echo survived"
    task = asyncio.ensure_future(helpers.sh(machine, script, timeout=5))

    async def up():
        return "up" in await machine.list_files()

    await helpers.eventually(up)
    await machine.pause()
    await asyncio.sleep(6)  # longer than the timeout: that it passes without effect is what is tested
    assert not task.done()
    await machine.write_file("go", "")
    await machine.resume()
    assert (await task).stdout == "survived\n"
