"""Shells that somebody stopped go on, whoever waits for them; commands that are stopped stay so.

Time budget: 20 s.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from gitmachine.errors import CommandTimeoutError
from gitmachine.machines.channel import watch

pytestmark = pytest.mark.requires("linux", "dash", "bash", "busybox", "setsid")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(watch, "LONGEST_SECONDS", 0.5)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()


async def stopped(rig, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    await rig.until(lambda: all(state(pid) == "T" for pid in pids), "they are stopped")


async def waiting(rig, shell: int) -> int:
    """Return the process that waits in a shell for the next command."""
    await rig.until(lambda: len(children(shell)) == 1, "a process waits in the shell")
    return children(shell)[0]


@pytest.mark.parametrize("who", ["shell", "waiting", "both"])
async def test_a_shell_that_was_stopped_is_continued_when_a_command_waits_for_it(rig, who):
    await rig.sh("true")
    await rig.settled()
    (shell,) = rig.slots.pids
    pids = {"shell": [shell], "waiting": [await waiting(rig, shell)]}
    await stopped(rig, *pids.get(who, [*pids["shell"], *pids["waiting"]]))
    async with asyncio.timeout(60):
        assert (await rig.sh("echo on")).stdout == "on\n"
    assert rig.plain, "it was looked at by a process of its own"
    assert (await rig.sh("echo on")).stdout == "on\n"


async def test_a_command_that_stopped_itself_is_left_alone(dash):
    process = await dash.spawn("echo $$ >pid; kill -STOP $$; echo on")
    file = Path(dash.home, "pid")
    await dash.until(lambda: file.exists() and file.read_text().endswith("\n"), "it says who it is")
    pid = int(file.read_text())
    await dash.until(lambda: state(pid) == "T", "it is stopped")
    seen = len(dash.plain)
    await dash.until(lambda: len(dash.plain) >= seen + 3, "it was looked at, and again")
    assert state(pid) == "T"
    os.kill(pid, signal.SIGCONT)
    assert (await dash.finish(process)).stdout == "on\n"


async def test_a_timeout_holds_where_every_shell_was_stopped(dash):
    await asyncio.gather(*(dash.sh("sleep 0.3") for _ in range(2)))
    await dash.settled()
    assert len(dash.slots.pids) >= 2
    await stopped(dash, *dash.slots.pids)
    async with asyncio.timeout(90):
        with pytest.raises(CommandTimeoutError):
            await dash.sh("sleep 600", timeout=0.5)
    assert dash.survivors() == []
    assert (await dash.sh("echo on")).stdout == "on\n"


async def test_short_commands_are_not_looked_at(dash, monkeypatch):
    monkeypatch.setattr(watch, "FIRST_SECONDS", 30.0)
    for _ in range(20):
        await dash.sh("true")
    assert dash.plain == []


async def test_nothing_is_looked_at_in_a_machine_that_stands_still(dash):
    process = await dash.spawn("until [ -e go ]; do sleep 0.05; done")
    dash.pool.pause()
    await dash.until(lambda: dash.pool._watch._looking is None, "no look is under way")
    seen = len(dash.plain)
    await asyncio.sleep(0.6)
    assert len(dash.plain) == seen
    dash.pool.resume()
    await dash.until(lambda: len(dash.plain) > seen, "it is looked at again")
    Path(dash.home, "go").touch()
    assert (await dash.finish(process)).exit_code == 0
