"""Marks, and what the scripts do to the processes that carry them.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from gitmachine.machines.channel import freeze_script, kill_script, machine_mark, new_mark, thaw_script
from gitmachine.machines.channel.scripts import PROBES
from support.channels import SHELLS

pytestmark = pytest.mark.requires("linux", "dash", "bash", "busybox", "setsid")

BEAT = "while :; do echo x >> beat; sleep 0.02; done"


def run(shell: str, script: str) -> int:
    return subprocess.run([*SHELLS[shell], "-c", script], check=False, timeout=60, stdin=subprocess.DEVNULL).returncode


def state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    return "gone"


async def reaches(pid: int, states: str) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while state(pid) not in states.split():
        assert asyncio.get_running_loop().time() < deadline, f"{pid} is {state(pid)}, not {states}"
        await asyncio.sleep(0.01)


async def background(rig, script: str) -> int:
    """Start something in the background; return its pid."""
    return int((await rig.sh(f"{{ {script}; }} >/dev/null 2>&1 & echo $!")).stdout)


def test_a_mark_is_a_number_of_18_digits_that_fits_a_limit():
    for key in ("", "container", "ü" * 100):
        machine = machine_mark(key)
        assert re.fullmatch(r"[1-9]\d{9}", machine)
        assert machine == machine_mark(key)
        mark = new_mark(machine)
        assert re.fullmatch(r"\d{18}", mark)
        assert mark.startswith(machine)
        assert int(mark) < 1 << 61


def test_machines_and_commands_have_marks_of_their_own():
    assert len({machine_mark(str(number)) for number in range(1000)}) == 1000
    assert len({new_mark("1234567890") for _ in range(100)}) > 95


@pytest.mark.parametrize("shell", SHELLS)
async def test_killing_a_machine_ends_all_of_its_processes_and_no_others(shell, make_rig, tmp_path):
    rig = make_rig("dash")
    other = make_rig("dash", mark=machine_mark("another machine"))
    spared = await background(other, "exec sleep 600")
    hidden = await background(rig, f"env -i PATH=\"$PATH\" setsid sh -c '{BEAT}' & {BEAT}")
    stubborn = await background(rig, "trap '' TERM INT HUP; sleep 600; sleep 600")
    await rig.until(lambda: len(rig.survivors()) >= 5, "everything runs")
    assert await asyncio.to_thread(run, shell, kill_script(rig.mark)) == 0
    await rig.until(lambda: not rig.survivors(), "everything is gone")
    assert {state(hidden), state(stubborn)} <= {"gone", "Z"}
    assert state(spared) in {"R", "S"}
    assert (await rig.sh("echo on")).stdout == "on\n"
    await asyncio.to_thread(run, shell, kill_script(machine_mark("another machine")))


@pytest.mark.parametrize("shell", SHELLS)
async def test_what_was_frozen_is_continued_and_what_was_stopped_before_is_not(shell, make_rig):
    rig = make_rig("dash")
    record = f"{rig.home}/it's frozen"
    runs = await background(rig, "exec sleep 600")
    hidden = await background(rig, "exec env -i setsid sleep 600")
    stopped = await background(rig, "exec sleep 600")
    os.kill(stopped, signal.SIGSTOP)
    await reaches(stopped, "T")
    for _ in range(2):  # again is harmless
        assert await asyncio.to_thread(run, shell, freeze_script(rig.mark, record)) == 0
        for pid in (runs, hidden, stopped):
            await reaches(pid, "T")
    recorded = [line.split()[0] for line in Path(record).read_text().splitlines()]
    assert sorted(recorded) == sorted({str(runs), str(hidden)})
    assert await asyncio.to_thread(run, shell, thaw_script(record)) == 0
    for pid in (runs, hidden):
        await reaches(pid, "S")
    assert state(stopped) == "T"
    assert not Path(record).exists()
    assert await asyncio.to_thread(run, shell, thaw_script(record)) == 0


@pytest.mark.parametrize("shell", SHELLS)
async def test_nothing_is_frozen_that_could_not_be_recorded(shell, make_rig):
    rig = make_rig("dash")
    runs = await background(rig, "exec sleep 600")
    assert await asyncio.to_thread(run, shell, freeze_script(rig.mark, "/no/such/record")) == 1
    assert state(runs) in {"R", "S"}


async def test_a_process_that_has_another_ones_number_is_not_continued(dash):
    record = Path(dash.home, "record")
    runs = await background(dash, "exec sleep 600")
    os.kill(runs, signal.SIGSTOP)
    await reaches(runs, "T")
    record.write_text(f"{runs} 1\n")
    assert await asyncio.to_thread(run, "dash", thaw_script(str(record))) == 0
    assert state(runs) == "T"


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_process_with_any_name_is_understood(shell, make_rig, tmp_path):
    # Field 2 of /proc/PID/stat is the name in parentheses, with whatever is in it.
    rig = make_rig("dash")
    tool = Path(rig.home, "a) Z 1 1\n(x")
    tool.symlink_to("/bin/sleep")
    pid = int((await rig.sh('"./a) Z 1 1\n(x" 600 >/dev/null 2>&1 & echo $!')).stdout)
    await rig.until(lambda: b"Z 1 1" in Path(f"/proc/{pid}/comm").read_bytes(), "the program runs")
    assert await asyncio.to_thread(run, shell, kill_script(rig.mark)) == 0
    await reaches(pid, "gone Z")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_process_that_ends_while_it_is_read_is_no_endless_loop(shell, tmp_path):
    # Reading fails as it does of a process that is gone by then; bash leaves the variable as it was.
    (tmp_path / "stat").mkdir()
    script = f"{PROBES}_gm_x=left; _gm_stat ..{tmp_path} 2>/dev/null; exit 7\n"
    assert run(shell, script) == 7
