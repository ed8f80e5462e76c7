"""The command line with E2B machines, each command a process of its own. Time budget: 40 s."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.repos import add_commit, make_remote, show

SECONDS = 240
MEGABYTE = 1 << 20


@pytest.fixture
def run(emulator, tmp_path):
    """Run one ``gitmachine`` command, led to the emulator by the variables alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("E2B_")}
    environment |= {**emulator.environment, "GITMACHINE_HOME": str(tmp_path / "home")}

    def command(*args, **variables):
        return subprocess.run(
            [sys.executable, "-m", "gitmachine", *args],
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )

    return command


@pytest.fixture
def remote(tmp_path):
    remote = make_remote(tmp_path / "remote.git", commits=3)
    add_commit(remote, "main", {"large": os.urandom(MEGABYTE)})
    return remote


def good(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_publishes_what_it_did_and_leaves_no_sandbox(emulator, run, remote):
    done = run(
        "run", "-p", "e2b", "-r", str(remote), "-s", "work", "--", "sh", "-c", "echo made > made; echo out; exit 3"
    )
    assert (done.returncode, done.stdout) == (3, "out\n"), done.stderr
    assert show(remote, "work:made") == "made"
    assert emulator.sandbox_ids == []
    # the objects went in as one file; what goes through inputs is what the way out says it wants
    assert [r.body_bytes > MEGABYTE for r in emulator.requests if r.path == "/files" and r.method == "POST"] == [True]
    assert sum(record.body_bytes for record in emulator.requests if record.path.endswith("SendInput")) < 20_000
    assert emulator.api_key not in done.stderr


def test_two_machines_are_driven_step_by_step_from_separate_processes(emulator, run, remote):
    for name in ("one", "two"):
        good(run("start", "-p", "e2b", "-r", str(remote), "-s", name, "--name", name, "-o", "timeout=600"))
    assert len(emulator.sandbox_ids) == 2
    for name in ("one", "two"):
        assert good(run("exec", name, "--", "sh", "-c", f"echo {name} > who; cat who")) == f"{name}\n"
    good(run("pause", "one"))
    assert json.loads(good(run("pause", "one", "--json")))["state"] == "paused"
    assert good(run("exec", "two", "--", "cat", "who")) == "two\n"
    good(run("resume", "one"))
    assert good(run("exec", "one", "--", "cat", "who")) == "one\n"
    listed = json.loads(good(run("ls", "--json")))["machines"]
    assert {row["name"] for row in listed} == {"one", "two"}
    for name in ("one", "two"):
        good(run("stop", name))
        assert show(remote, f"{name}:who") == name
    assert emulator.sandbox_ids == []


def test_a_machine_that_nobody_holds_is_found_and_removed(emulator, run, remote):
    good(run("start", "-p", "e2b", "-r", str(remote), "-s", "lost", "--name", "lost"))
    good(run("stop", "lost", "--force"))
    assert emulator.sandbox_ids == []
    assert "e2b" in good(run("providers"))
    assert "accepts the key" in good(run("doctor", "e2b"))


def test_without_a_key_the_command_says_what_to_do(run, remote):
    done = run("run", "-p", "e2b", "-r", str(remote), "--", "true", E2B_API_KEY="")
    assert done.returncode == 125
    assert "E2B_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
