"""Starts and freezings of one container by several processes: never at once, and nobody waits for the dead.

Time budget: 10 s. No engine is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import pytest

from gitmachine.state.places import Places
from gitmachine_local_docker import _gate
from gitmachine_local_docker._gate import HostGate

pytestmark = pytest.mark.requires("linux")

OTHER = """
import asyncio, sys
from gitmachine_local_docker._gate import HostGate

async def main():
    gate = HostGate(sys.argv[2])
    if sys.argv[1] == "start":
        hold = await gate.enter()
        print("in", flush=True)
        sys.stdin.readline()
        hold.release()
    else:
        async with gate.shut(10):
            print("in", flush=True)
            sys.stdin.readline()
    print("out", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""
SECONDS = 60


@contextlib.contextmanager
def other(what, container="a"):
    """Have another process start something, or freeze, until a line is written to it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, what, container], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()


async def shut(gate, *, seconds=SECONDS):
    async with gate.shut(seconds):
        pass


async def enter(gate):
    (await gate.enter()).release()


def freely(call):
    """Bound what nobody holds up."""
    return asyncio.wait_for(call, SECONDS / 2)


@pytest.mark.parametrize("end", ["released", "killed"])
async def test_a_freezing_waits_for_a_start_of_another_process(end):
    gate = HostGate("a")
    with other("start") as process:
        await freely(enter(gate))  # starts go on side by side
        freezing = asyncio.ensure_future(shut(gate))
        await asyncio.wait([freezing], timeout=0.3)
        assert not freezing.done()
        entering = asyncio.ensure_future(enter(gate))
        await asyncio.wait([entering], timeout=0.3)
        assert not entering.done(), "who comes later lets the freezing go first"
        if end == "killed":
            process.kill()
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        await freely(asyncio.gather(freezing, entering))


@pytest.mark.parametrize("end", ["released", "killed"])
async def test_a_start_waits_for_a_freezing_by_another_process(end):
    gate = HostGate("a")
    with other("freeze") as process:
        entering = asyncio.ensure_future(enter(gate))
        await asyncio.wait([entering], timeout=0.3)
        assert not entering.done()
        if end == "killed":
            process.kill()
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        await freely(entering)


async def test_another_container_is_not_held_up():
    gate = HostGate("b")
    with other("freeze"):
        await freely(enter(gate))
        await freely(shut(gate))


async def test_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(_gate, "START_SECONDS", 0.2)
    gate = HostGate("a")
    with other("freeze"):
        await freely(enter(gate))
        await freely(shut(gate, seconds=0.2))


async def test_there_is_one_file_for_all_and_without_a_place_for_it_nobody_is_held_up(gitmachine_home, monkeypatch):
    for container in ("a", "b"):
        await shut(HostGate(container))
        await enter(HostGate(container))
    assert [path.name for path in Places.default().runtime.iterdir()] == ["docker-starts.lock"]
    monkeypatch.setenv("GITMACHINE_HOME", "/proc/no-such-place")
    await enter(HostGate("a"))
    await shut(HostGate("a"))
    monkeypatch.setattr(_gate, "_SET_LOCK", None)
    await enter(HostGate("a"))
