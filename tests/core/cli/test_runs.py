"""Commands that go on without anybody: begun, listed and read by different processes. Time budget: 15 s."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitmachine.cli import main
from support.commandline import Started

Run = Callable[..., "subprocess.CompletedProcess[str]"]

LINES = "".join(f"{number}\n" for number in range(1, 10_001))
COUNT = "seq 10000; echo e >&2; until [ -e go ]; do sleep 0.05; done; echo end; exit 7"


@pytest.fixture
def machine(inside: Run, remote: Path) -> str:
    """A machine named a, on the session feat."""
    done = inside("start", "-r", str(remote), "-s", "feat", "--name", "a", "-e", "FOO=of the start")
    assert done.returncode == 0, done.stderr
    return "a"


def sizes(run: Run, machine: str) -> tuple[int, int]:
    """Return how much output the machine's only run has by now."""
    (listed,) = json.loads(run("runs", machine, "--json").stdout)["runs"]
    return listed["stdout_bytes"], listed["stderr_bytes"]


@pytest.mark.requires("sandbox")
def test_all_output_once_from_any_offset_after_its_client_has_gone_and_through_a_pause(
    begin: Callable[..., Started], gitmachine: Run, inside: Run, machine: str
) -> None:
    run = gitmachine("spawn", machine, "-e", "X=y", "--name", "count", "sh", "-c", f'echo "$FOO $X"; {COUNT}')
    assert run.returncode == 0, run.stderr
    (identity,) = run.stdout.split()
    follower = begin("attach", machine, "count")
    assert follower.read_line() == "of the start y\n"
    follower.signal(signal.SIGKILL)
    assert inside("pause", machine).returncode == 0
    frozen = inside("attach", machine, identity, "--no-follow")
    assert (frozen.returncode, "paused" in frozen.stderr) == (125, True)
    assert inside("resume", machine).returncode == 0
    head = "of the start y\n"
    another = begin("attach", machine, identity[:4], "--offset", str(len(head)))
    assert another.read_line() == "1\n"
    deadline = time.monotonic() + 60
    while sizes(inside, machine) != (len(head + LINES), 2):
        assert time.monotonic() < deadline, sizes(inside, machine)
    partial = inside("attach", machine, identity, "--no-follow", "--offset", str(len(head + LINES)))
    assert (partial.returncode, partial.stdout, partial.stderr) == (0, "", "e\n")
    (listed,) = json.loads(inside("runs", machine, "--json").stdout)["runs"]
    assert (listed["id"], listed["name"], listed["state"]) == (identity, "count", "running")
    assert inside("exec", machine, "touch", "go").returncode == 0
    assert another.end_code() == 7
    assert "1\n" + another.rest == LINES + "end\n"
    whole = inside("attach", machine, "count", "--stderr-offset", "1")
    assert (whole.returncode, whole.stdout) == (7, head + LINES + "end\n")
    assert whole.stderr == "\ngitmachine: the command exited with 7\n"
    table = inside("runs", machine).stdout.splitlines()
    assert table[1].split()[:4] == [identity, "count", "exited", "7"]
    unknown = inside("attach", machine, "nosuch")
    assert (unknown.returncode, "nosuch" in unknown.stderr) == (125, True)


@pytest.mark.requires("sandbox")
def test_ctrl_c_lets_go_of_a_run_and_leaves_it_alone(begin: Callable[..., Started], inside: Run, machine: str) -> None:
    begun = json.loads(inside("spawn", machine, "--json", "--", "sh", "-c", f"echo up; {COUNT}").stdout)
    follower = begin("attach", machine, begun["id"])
    assert follower.read_line() == "up\n"
    follower.signal(signal.SIGINT)
    assert follower.end_code() == 130
    (listed,) = json.loads(inside("runs", machine, "--json").stdout)["runs"]
    assert listed["state"] == "running"


def test_mistakes_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    for args, code in (
        (["spawn", "a"], 2),
        (["spawn", "a", "-e", "=", "x"], 2),
        (["spawn", "a", "x"], 1),
        (["runs", "a"], 1),
        (["attach", "a", "x"], 125),
        (["attach", "a", "x", "--offset", "-1"], 2),
    ):
        assert main(args) == code, args
        out, err = capfd.readouterr()
        assert (out, "Traceback" in err) == ("", False)
        assert err.startswith("gitmachine: ")
