"""Real signals to a real process group, at each phase of a run. Time budget: 30 s."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commandline import Started
from support.gitserver import Mischief, serving
from support.repos import git, show

pytestmark = pytest.mark.requires("sandbox")

MARK = f"600.{os.getpid()}{time.monotonic_ns()}"
"""An argument of sleep that no other process has."""

WORK = f"sleep {MARK} & setsid sleep {MARK} & echo x > x; echo started; wait"


@pytest.fixture
def start(begin: Callable[..., Started]) -> Callable[..., Started]:
    """Begin runs; those that are left are killed."""
    return lambda *args: begin("run", *args)


def machine_of(pid: int) -> list[int]:
    """Return the processes of the local provider that a process descends from: supervisor and sandbox."""
    chain = []
    while pid > 1:
        command = Path("/proc", str(pid), "cmdline").read_bytes()
        if b"gitmachine_local.supervisor" in command:
            chain.append(pid)
        pid = int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    return chain


def processes() -> list[int]:
    """Return the processes that the command `WORK` left anywhere, in whatever sandbox."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == b"\0".join([b"sleep", MARK.encode(), b""]):
                found.append(int(entry.name))
    return found


def assert_gone(home: Any) -> None:
    """No process of the command and nothing of the machine is left, once the kernel has cleared up."""
    deadline = time.monotonic() + 30
    machines = home.path / "state" / "local"
    while (processes() or (machines.exists() and list(machines.iterdir()))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes() == []
    assert not machines.exists() or list(machines.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_command_and_saves_the_work(
    start: Callable[..., Started], home: Any, remote: Path, number: signal.Signals
) -> None:
    run = start("-r", str(remote), "-s", "feat", "--", "sh", "-c", WORK)
    assert run.read_line() == "started\n"
    run.signal(number)
    assert run.end() == (130, "gitmachine: interrupted: the command was stopped")
    assert "interrupted: stopping the command and saving the work (Ctrl-C again leaves at once)" in run.stderr()
    assert show(remote, "feat:x") == "x"
    assert home.machines() == []
    assert_gone(home)


def test_an_interrupted_run_prints_its_document(start: Callable[..., Started], remote: Path) -> None:
    run = start("-r", str(remote), "-s", "feat", "--json", "--stream", "--", "sh", "-c", WORK)
    run.until(lambda: "started" in run.stderr().splitlines())
    run.signal(signal.SIGINT)
    assert run.end()[0] == 130
    found = json.loads(run.rest)
    assert (found["exit_code"], found["status"], found["pushed"], found["stdout"]) == (None, 130, True, "started\n")
    assert show(remote, "feat:x") == "x"


@pytest.fixture
def slow_remote(remote: Path) -> Iterator[Path]:
    """The remote, whose hook holds each push until the file ``go`` is there."""
    hook = remote / "hooks" / "pre-receive"
    hook.write_text(f'#!/bin/sh\ntouch "{remote}/pushing"\nwhile [ ! -e "{remote}/go" ]; do sleep 0.02; done\n')
    hook.chmod(0o755)
    yield remote
    (remote / "go").touch()


def test_a_signal_while_the_work_is_saved_waits_for_it(start: Callable[..., Started], slow_remote: Path) -> None:
    run = start("-r", str(slow_remote), "-s", "feat", "--", "sh", "-c", "echo x > x")
    run.until((slow_remote / "pushing").exists)
    run.signal(signal.SIGINT)
    run.until(lambda: "interrupted: the work is being saved" in run.stderr())
    (slow_remote / "go").touch()
    code, last = run.end()
    assert code == 0
    assert "the remote has feat at" in last
    assert show(slow_remote, "feat:x") == "x"


def test_a_second_ctrl_c_leaves_at_once_and_the_machine_is_on_record(
    start: Callable[..., Started], home: Any, slow_remote: Path
) -> None:
    run = start("-r", str(slow_remote), "-s", "feat", "--", "sh", "-c", WORK)
    assert run.read_line() == "started\n"
    run.signal(signal.SIGINT)
    run.until((slow_remote / "pushing").exists)
    run.signal(signal.SIGINT)
    code, last = run.end()
    (record,) = home.machines()
    assert code == 130
    assert last == f"gitmachine: left at once: the machine {record.machine_id} is recorded and keeps the work"
    assert record.session == "feat"
    assert git("-C", slow_remote, "branch", "--format=%(refname)") == "refs/heads/main"


def kill_machine(run: Started) -> None:
    """Kill the machine of a run, in which a command is at work."""
    run.until(lambda: "started" in run.stderr().splitlines())
    run.until(lambda: len(processes()) == 2)
    machine = machine_of(processes()[0])
    assert machine
    for pid in reversed(machine):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_machine_that_is_killed_is_125_and_its_work_is_published(
    start: Callable[..., Started], home: Any, remote: Path
) -> None:
    run = start("-r", str(remote), "-s", "feat", "--json", "--stream", "--", "sh", "-c", WORK)
    kill_machine(run)
    code, _last = run.end()
    found = json.loads(run.rest)
    assert (code, found["exit_code"], found["status"], found["pushed"]) == (125, None, 125, True)
    assert "was started again: its files are there" in run.stderr()
    assert git("-C", remote, "show", "feat:x") == "x"
    assert home.machines() == []


def test_a_machine_that_is_gone_is_125_and_says_what_this_host_has(
    start: Callable[..., Started], home: Any, remote: Path
) -> None:
    run = start("-r", str(remote), "-s", "feat", "--json", "--stream", "--", "sh", "-c", WORK)
    run.until(lambda: "started" in run.stderr().splitlines())
    shutil.rmtree(home.path / "state" / "local")
    kill_machine(run)
    code, last = run.end()
    assert code == 125
    assert last.startswith("gitmachine: ")
    found = json.loads(run.rest)
    assert (found["exit_code"], found["status"], found["pushed"], found["receipt"]) == (None, 125, False, None)
    assert found["error"] in last
    assert "has nothing of it that the remote lacks" in run.stderr()
    assert home.machines() == []


@pytest.mark.requires("git-http-backend")
def test_a_signal_during_the_start_undoes_it(
    start: Callable[..., Started], home: Any, remote: Path, tmp_path: Path
) -> None:
    with serving(tmp_path) as server:
        server.misbehave(Mischief.HANG)
        run = start("-r", f"{server.url}/{remote.name}", "-s", "feat", "--", "true")
        run.until(lambda: bool(server.requests))
        run.signal(signal.SIGINT)
        assert run.end() == (
            130,
            "gitmachine: interrupted before the command started; nothing is left behind",
        )
    assert home.machines() == []
    assert_gone(home)
