"""SSH machines from the command line, each step in a process of its own; over a jump host; and no credential there.

Time budget: 40 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.gitserver import serving as serving_git
from support.namespaces import jump_host
from support.repos import make_remote, show
from support.sshd import client_key

pytestmark = pytest.mark.requires("sshd", "root")

CANARY = "canary-7f3b52d0c9e14a"


@pytest.fixture
def gitmachine(gitmachine_home, tmp_path):
    """Run the command line to its end."""

    def run(*args, **extra):
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {"GITMACHINE_HOME": str(gitmachine_home), **extra}
        return subprocess.run(
            [sys.executable, "-m", "gitmachine", *args],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=150,
            check=False,
        )

    return run


def options(config):
    """Return a configuration as command line options."""
    given = {
        "host": config.host,
        "port": config.port,
        "user": config.user,
        "identity_file": config.identity_file[0],
        "known_hosts": config.known_hosts[0],
        "config_file": config.config_file or os.devnull,
        "agent": "false",
        "base_dir": config.base_dir,
        "jump": config.jump,
    }
    return [word for name, value in given.items() if value is not None for word in ("-o", f"{name}={value}")]


def good(done):
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_one_command_starts_runs_publishes_and_leaves_nothing(gitmachine, config, tmp_path):
    remote = make_remote(tmp_path / "remote")
    script = "echo from afar > far.txt; echo $SSH_CONNECTION; pwd; exit 7"
    done = gitmachine("run", "-p", "ssh", *options(config), "-r", str(remote), "-s", "far", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[-1].startswith(config.base_dir)
    assert show(remote, "far:far.txt") == "from afar"
    assert list(Path(config.base_dir).iterdir()) == []


def test_each_step_may_be_a_process_of_its_own_and_no_credential_is_on_the_host(gitmachine, config, tmp_path, helpers):
    (tmp_path / "repos").mkdir()
    make_remote(tmp_path / "repos" / "project.git")
    with serving_git(tmp_path / "repos", token=CANARY) as server:
        url = f"{server.url}/project.git"
        start = ("start", "-p", "ssh", *options(config), "-r", url, "-s", "steps", "--name", "a")
        good(gitmachine(*start, GITMACHINE_TOKEN=CANARY))
        good(gitmachine("exec", "a", "--", "sh", "-c", "echo one > one.txt; sleep 600 >/dev/null 2>&1 &"))
        good(gitmachine("push", "a", GITMACHINE_TOKEN=CANARY))
        machine = json.loads(good(gitmachine("ls", "--json")))["machines"][0]["machine"]
        _search(config, machine, helpers)
        good(gitmachine("pause", "a"))
        assert gitmachine("exec", "a", "--", "true").returncode == 125
        good(gitmachine("resume", "a"))
        good(gitmachine("exec", "a", "--", "sh", "-c", "echo two > two.txt"))
        assert good(gitmachine("exec", "a", "--", "cat", "one.txt", "two.txt")) == "one\ntwo\n"
        good(gitmachine("stop", "a", GITMACHINE_TOKEN=CANARY))
    remote = tmp_path / "repos" / "project.git"
    assert show(remote, "steps:two.txt") == "two"
    assert list(Path(config.base_dir).iterdir()) == []
    assert helpers.marked_with(machine) == []


def _search(config, machine, helpers):
    """Look for the credential in everything that the host has of the machine."""
    files = [path for path in Path(config.base_dir).rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "label" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    pids = helpers.marked_with(machine)
    assert pids
    for pid in pids:
        for name in ("environ", "cmdline"):
            assert CANARY.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.requires("namespaces")
def test_a_host_that_only_a_jump_host_reaches(gitmachine, helpers, tmp_path):
    remote = make_remote(tmp_path / "remote")
    with jump_host() as (first, second):
        near = helpers.serving(address=first.there, namespace=first.far.name)
        far = helpers.serving(address=second.there, namespace=second.far.name)
        with near as a, far as b:
            known = tmp_path / "known_hosts"
            base = str(tmp_path / "machines")
            config = helpers.configure(b, known, base_dir=base, jump=f"root@{a.address}")
            known.write_text(a.known_hosts() + b.known_hosts())
            words = ("-r", str(remote), "-s", "beyond", "--", "sh", "-c", "echo beyond > beyond.txt")
            direct = helpers.configure(b, tmp_path / "other", base_dir=base)
            refused = gitmachine("run", "-p", "ssh", *options(direct), "-o", "connect_timeout=3", *words)
            assert refused.returncode == 125
            assert f"cannot connect to root@{b.address}" in refused.stderr
            good(gitmachine("run", "-p", "ssh", *options(config), *words))
    assert show(remote, "beyond:beyond.txt") == "beyond"


def test_a_password_in_the_options_is_refused_and_not_repeated(gitmachine, config, tmp_path):
    remote = make_remote(tmp_path / "remote")
    words = ("-r", str(remote), "--", "true")
    done = gitmachine("run", "-p", "ssh", *options(config), "-o", "password=hunter2", *words)
    assert done.returncode == 2
    assert "must not be written out" in done.stderr
    assert "hunter2" not in done.stderr


def test_doctor_says_what_works(gitmachine, config, tmp_path):
    table = "\n".join(
        f"{name} = {json.dumps(value)}"
        for name, value in {
            "host": config.host,
            "port": config.port,
            "user": "root",
            "identity_file": [str(client_key())],
            "known_hosts": list(config.known_hosts),
            "config_file": os.devnull,
            "agent": False,
            "base_dir": config.base_dir,
        }.items()
    )
    file = tmp_path / "gitmachine.toml"
    file.write_text(f"[providers.ssh]\n{table}\n")
    said = good(gitmachine("doctor", "ssh", "--json"))
    assert "a command ran in" in said
    file.write_text(file.read_text().replace(str(config.port), "1"))
    done = gitmachine("doctor", "ssh", "--json")
    assert done.returncode != 0
    assert "connection refused" in done.stdout
