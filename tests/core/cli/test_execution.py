"""Commands in a machine that another process started, beside whatever else is done to it. Time budget: 30 s."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from support.commandline import Started

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MARK = f"600.{os.getpid()}{time.monotonic_ns()}"
"""An argument of sleep that no other process has."""


def sleepers() -> int:
    """Count the processes that sleep for `MARK`, in whatever sandbox."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found += (entry / "cmdline").read_bytes() == b"\0".join([b"sleep", MARK.encode(), b""])
        except OSError:
            continue  # it has ended meanwhile
    return found


def gone() -> bool:
    deadline = time.monotonic() + 60
    while sleepers() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not sleepers()


def logged(gitmachine: Run, machine: str) -> list[dict[str, Any]]:
    """Return the machine's commands as the command log has them."""
    found: list[dict[str, Any]] = json.loads(gitmachine("logs", machine, "--json").stdout)["commands"]
    return found


@pytest.fixture
def gitmachine(inside: Run) -> Run:
    """Run what nothing waits for in this process."""
    return inside


@pytest.fixture
def machine(gitmachine: Run, remote: Path) -> str:
    """A machine named a, on the session feat, whose commands all know FOO."""
    done = gitmachine("start", "-r", str(remote), "-s", "feat", "--name", "a", "-e", "FOO=of the start")
    assert done.returncode == 0, done.stderr
    return "a"


@pytest.mark.requires("sandbox")
def test_codes_output_and_variables_are_the_commands_own(gitmachine: Run, machine: str) -> None:
    done = gitmachine("exec", machine, "-e", "BAR=own", "sh", "-c", 'echo "$FOO, $BAR"; echo e >&2; exit 7')
    assert (done.returncode, done.stdout) == (7, "of the start, own\n")
    assert done.stderr.splitlines() == ["e", "gitmachine: the command exited with 7"]
    document = gitmachine("exec", "--json", machine, "--", "sh", "-c", "echo out; echo err >&2; kill -9 $$")
    found = json.loads(document.stdout)
    assert (document.returncode, found["exit_code"], found["status"]) == (137, 137, 137)
    assert (found["stdout"], found["stderr"], found["name"], found["session"]) == ("out\n", "err\n", "a", "feat")
    late = gitmachine("exec", machine, "--timeout", "0.2", "--", "sleep", MARK)
    assert (late.returncode, "exceeded its timeout" in late.stderr) == (124, True)
    gitmachine("exec", machine, "-e", "MY_TOKEN=hunter2-hunter2", "sh", "-c", "echo hunter2-hunter2")
    history = gitmachine("logs", machine).stdout.splitlines()
    assert [line.split("  ")[2] for line in history] == ["7", "137", "timed out", "0"]
    assert "hunter2" not in "".join(history)
    missing = gitmachine("exec", machine, "nosuchprogram", "--timeout")
    assert (missing.returncode, "hint: there is no program" in missing.stderr) == (127, True)
    assert gone()


@pytest.mark.requires("sandbox")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_client_that_ends_takes_its_command_along_and_leaves_the_machine(
    begin: Callable[..., Started], gitmachine: Run, machine: str, number: signal.Signals, code: int
) -> None:
    run = begin("exec", machine, "--", "sh", "-c", f"echo x > x; echo up; sleep {MARK}")
    assert run.read_line() == "up\n"
    run.until(lambda: [one["state"] for one in logged(gitmachine, machine)] == ["running"])
    run.signal(number)
    assert run.process.wait(60) == code
    (entry,) = logged(gitmachine, machine)
    assert f"sleep {MARK}" in entry["command"]
    assert (entry["state"], entry["exit_code"]) == ("ended" if number is signal.SIGINT else "interrupted", None)
    assert gone()
    again = gitmachine("exec", machine, "--", "cat", "x")
    assert (again.returncode, again.stdout) == (0, "x\n")
    listed = json.loads(gitmachine("ls", "--json").stdout)
    assert [(one["name"], one["state"], one["orphan"]) for one in listed["machines"]] == [("a", "running", False)]


@pytest.mark.requires("sandbox")
def test_others_look_and_pause_while_a_command_runs_and_its_clock_stands_still(
    begin: Callable[..., Started], gitmachine: Run, machine: str
) -> None:
    follower = begin("logs", machine, "--follow")
    script = "echo x > x; echo up; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.1; done; echo end"
    run = begin("exec", machine, "--timeout", "100", "--", "sh", "-c", script)
    assert run.read_line() == "up\n"
    assert "+x" in gitmachine("diff", machine).stdout
    assert gitmachine("pause", machine).returncode == 0
    frozen = gitmachine("status", machine)
    assert "a (local) is paused" in frozen.stdout
    assert run.process.poll() is None
    assert gitmachine("resume", machine).returncode == 0
    assert run.read_line() == "end\n"
    assert run.process.wait(60) == 0
    assert "echo up" in follower.read_line()
    assert gitmachine("stop", machine).returncode == 0
    assert follower.end_code() == 0


@pytest.mark.requires("sandbox")
def test_the_timeout_does_not_pass_while_the_machine_is_paused(
    begin: Callable[..., Started], gitmachine: Run, machine: str
) -> None:
    run = begin("exec", machine, "--timeout", "5", "--", "sh", "-c", "echo up; sleep 1; echo end")
    assert run.read_line() == "up\n"
    assert gitmachine("pause", machine).returncode == 0
    time.sleep(5)  # what is tested is that this time does not count
    assert gitmachine("resume", machine).returncode == 0
    assert run.end_code() == 0
    assert run.rest == "end\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["exec"], "missing argument"),
        (["exec", "a"], "missing argument"),
        (["exec", "a", "--", "x", "--unknown"], "no machine has the name or id 'a'"),
        (["exec", "a", "--unknown", "x"], "no such option"),
        (["exec", "a", "-e", "1=2", "x"], "expected NAME=VALUE"),
        (["exec", "a", "--timeout", "nan", "x"], "timeout must be more than 0"),
        (["exec", "a", "--timeout", "-1", "x"], "timeout must be more than 0"),
        (["exec", "a", ""], "its first string names the program"),
        (["exec", "\x1b]0;x\x07", "x"], "no machine has the name"),
        (["exec", "a' OR '1'='1", "x"], "no machine has the name"),
        (["exec", "%", "x"], "no machine has the name"),
        (["exec", "\udcff", "x"], "no machine has the name"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(args: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(args)
    out, err = capfd.readouterr()
    assert (out, "Traceback" in err, "\x1b" in err) == ("", False, False)
    assert says in err
    assert code == (125 if "no machine" in says else 2)


def test_the_document_tells_a_mistake_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "a", "--json", "--", "x"]) == 125
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert (found["exit_code"], found["status"]) == (None, 125)
    assert "no machine has the name or id 'a'" in found["error"]
