"""Pause, resume and stop by the command line, and machines that died. Time budget: 15 s."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli.messages import explain
from gitmachine.errors import HookError, InvalidStateError, StopRefused
from support.crashing import processes_under
from support.repos import show

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def start(run: Run, remote: Path, **keywords: Any) -> None:
    done = run("start", "-r", str(remote), "-s", "feat", "--name", "a", **keywords)
    assert done.returncode == 0, done.stderr


@pytest.mark.requires("sandbox")
def test_pausing_and_resuming_twice_is_no_mistake(inside: Run, remote: Path) -> None:
    start(inside, remote)
    for verb, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("resume", "running")):
        done = inside(verb, "a", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["name"], found["state"], found["session"]) == ("a", state, "feat")
    inside("pause", "a")
    assert inside("stop", "a").returncode == 0


@pytest.mark.requires("sandbox")
def test_without_automatic_commits_a_stop_is_refused_until_the_work_is_published(inside: Run, remote: Path) -> None:
    start(inside, remote, env={"GITMACHINE_AUTO_COMMIT": "false"})
    assert inside("exec", "a", "--", "sh", "-c", "echo x > x").returncode == 0
    refused = inside("stop", "a", "--json")
    assert refused.returncode == 3
    found = json.loads(refused.stdout)
    assert (found["machine_kept"], found["status"]) == (True, 3)
    assert [item["kind"] for item in found["kept"]] == ["changes"]
    assert "`commit` and `push` it, or `stop --force`" in refused.stderr
    inside("commit", "a", "-m", "m")
    inside("push", "a")
    assert inside("stop", "a").returncode == 0
    assert show(remote, "feat:x") == "x"


def kill_machines(home: Path) -> None:
    for pid in processes_under(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.requires("sandbox", "linux")
def test_a_machine_that_was_killed_is_started_again_and_its_work_published(
    inside: Run, home: Any, remote: Path
) -> None:
    start(inside, remote)
    assert inside("exec", "a", "--", "sh", "-c", "echo work > new.txt").returncode == 0
    kill_machines(home.path)
    told = inside("status", "a")
    assert (told.returncode, told.stderr.count("was started again: its files are there")) == (0, 1)
    assert "new.txt" in told.stdout
    assert inside("stop", "a").returncode == 0
    assert show(remote, "feat:new.txt") == "work"


@pytest.mark.requires("sandbox", "linux")
@pytest.mark.parametrize("verb", ["status", "stop"])
def test_a_machine_that_died_is_4_and_its_name_is_free_again(inside: Run, home: Any, remote: Path, verb: str) -> None:
    start(inside, remote)
    kill_machines(home.path)
    shutil.rmtree(home.path / "state" / "local")
    done = inside(verb, "a")
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert inside("ls").stdout == ""
    assert inside("exec", "a", "--", "true").returncode == 125
    start(inside, remote)
    assert inside("stop", "a").returncode == 0


def test_advice_is_about_commands_here() -> None:
    asleep = InvalidStateError("machine is paused: call resume() first")
    assert explain(asleep) == "machine is paused: `resume` first"
    refused = StopRefused("not published: x; commit() and push() it, or stop(force=True)", unpublished=())
    assert explain(refused) == "not published: x; `commit` and `push` it, or `stop --force`"
    failed = HookError("plugin p failed", plugin="p", hook="h")
    failed.add_note("the machine a is kept; stop(force=True) ends it")
    assert explain(failed) == "plugin p failed\nthe machine a is kept; `stop --force` ends it"
