"""A machine from start to stop, each step by a process of its own. Time budget: 40 s."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from support.commandline import Started
from support.gitserver import Mischief, serving
from support.repos import git, show, tip

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.requires("sandbox")


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed; it went well and said nothing that is only for developers."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_each_step_by_its_own_process(gitmachine: Run, remote: Path, home: Any) -> None:
    url = f"file://{remote}"
    assert ok(gitmachine("start", "-r", url, "-s", "feat", "--name", "a", "-e", "FOO=b a r")) == "a feat\n"
    second = gitmachine("start", "-r", url, "-s", "feat", "--name", "b")
    assert second.returncode == 1
    assert "session 'feat'" in second.stderr
    assert "is held by machine 'a'" in second.stderr
    script = 'echo "$FOO"; echo one > one; echo two > two'
    assert ok(gitmachine("exec", "a", "--", "sh", "-c", script)) == "b a r\n"
    ok(gitmachine("pause", "a"))
    assert show(remote, "main:README.md") == "# Sample"
    ok(gitmachine("diff", "a"))
    assert [record.state for record in home.machines()] == ["paused"]
    refused = gitmachine("exec", "a", "--", "true")
    assert (refused.returncode, "machine is paused: `resume` first" in refused.stderr) == (125, True)
    ok(gitmachine("resume", "a"))
    ok(gitmachine("exec", "a", "--", "sh", "-c", "echo three >> two"))
    patch = ok(gitmachine("diff", "a"))
    assert "+three" in patch
    sha = ok(gitmachine("commit", "a", "-m", "by hand")).strip()
    assert ok(gitmachine("push", "a")).strip() == sha == tip(remote, "feat")
    assert git("-C", remote, "log", "-1", "--format=%s", "feat") == "by hand"
    ok(gitmachine("exec", "a", "--", "sh", "-c", "echo left > left"))
    receipt = json.loads(ok(gitmachine("stop", "a", "--json")))
    assert (receipt["status"], receipt["pushed"], receipt["machine_kept"]) == (0, True, False)
    assert receipt["remote_sha"] == tip(remote, "feat")
    assert show(remote, "feat:left") == "left"
    assert json.loads(ok(gitmachine("ls", "--json"))) == {"machines": [], "recovered": []}
    (ended,) = json.loads(ok(gitmachine("ls", "--all", "--json")))["machines"]
    assert (ended["name"], ended["state"], ended["session"], ended["orphan"]) == ("a", "stopped", "feat", False)
    again = gitmachine("stop", "a")
    assert (again.returncode, "has ended" in again.stderr) == (1, True)


def test_one_document_and_a_machine_known_by_the_beginning_of_its_id(inside: Run, remote: Path) -> None:
    made = json.loads(ok(inside("start", "-r", str(remote), "--json")))
    assert (made["name"], made["provider"], made["state"]) == (None, "local", "running")
    assert made["session"] == f"gitmachine/{made['key']}"
    assert made["head"] == tip(remote, "main")
    assert ok(inside("exec", made["machine"][:6], "--", "pwd")).strip() == made["path"]
    ambiguous = inside("exec", "", "--", "true")
    assert (ambiguous.returncode, ambiguous.stdout) == (125, "")
    nothing = inside("stop", made["key"][:10])
    assert (nothing.returncode, "nothing was pushed" in nothing.stderr) == (0, True)
    assert git("-C", remote, "branch", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.requires("git-http-backend")
def test_a_signal_during_the_start_undoes_it(begin: Callable[..., Started], home: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.misbehave(Mischief.HANG)
        run = begin("start", "-r", f"{server.url}/remote.git", "-s", "feat", "--name", "a")
        run.until(lambda: bool(server.requests))
        run.signal(signal.SIGINT)
        assert run.end()[0] == 130
    assert "interrupted: the start was undone; nothing is left behind" in run.stderr()
    assert home.machines() == []


@pytest.mark.requires("git-http-backend")
def test_a_start_whose_process_was_killed_is_undone_by_the_next(
    begin: Callable[..., Started], inside: Run, home: Any, remote: Path, tmp_path: Path
) -> None:
    with serving(tmp_path) as server:
        server.misbehave(Mischief.HANG)
        run = begin("start", "-r", f"{server.url}/{remote.name}", "-s", "feat", "--name", "a")
        run.until(lambda: bool(server.requests))
        run.signal(signal.SIGKILL)
        run.process.wait(60)
        server.behave()
        listed = inside("ls", "--json")
        assert "machine a:" in listed.stderr
        found = json.loads(ok(listed))
        assert found["machines"] == []
        assert [one["label"] for one in found["recovered"]] == ["a"]
        ok(inside("start", "-r", f"{server.url}/{remote.name}", "-s", "feat", "--name", "a"))
        ok(inside("stop", "a"))
    assert home.machines() == []


def test_a_machine_of_the_provider_is_taken_over_by_its_id(inside: Run, remote: Path, home: Any) -> None:
    made = json.loads(ok(inside("start", "-r", str(remote), "-s", "feat", "--json")))
    ok(inside("exec", made["machine"], "--", "sh", "-c", "echo x > x"))
    known = ok(inside("connect", "local", made["machine"]))
    assert known == f"{made['machine']} feat\n"
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (home.path / "state" / name).unlink(missing_ok=True)
    unnamed = inside("connect", "local", made["machine"])
    assert (unnamed.returncode, "its repository must be named" in unnamed.stderr) == (2, True)
    taken = ok(inside("connect", "local", made["machine"], "-r", str(remote), "--name", "b"))
    assert taken == "b feat\n"
    ok(inside("stop", "b"))
    assert show(remote, "feat:x") == "x"


def test_credentials_of_the_provider_are_resolved_by_each_process(inside: Run, remote: Path) -> None:
    options = ("-o", "env.KEY=${MY_KEY}")
    secret = {"MY_KEY": "one-secret"}
    ok(inside("start", "-r", str(remote), "-s", "feat", "--name", "a", *options, env=secret))
    without = inside("exec", "a", "--", "true")
    assert (without.returncode, "MY_KEY" in without.stderr) == (2, True)
    assert "one-secret" not in ok(inside("show", "a", "--json"))
    assert ok(inside("exec", "a", "--", "sh", "-c", "echo $KEY", env=secret)) == "one-secret\n"
    ok(inside("stop", "a", env=secret))


@pytest.mark.parametrize("name", ["", " ", "-x", "a\nb", "\x1b[31m", "a\u202eb"])
def test_a_name_that_could_not_be_typed_or_shown_is_refused(
    remote: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", "-r", str(remote), "-s", "feat", f"--name={name}"]) == 2
    out, err = capfd.readouterr()
    assert (out, "\x1b" in err) == ("", False)
    assert "invalid machine name" in err


FLEETING = """
import attrs
from gitmachine import ProviderSpec, hookimpl
from gitmachine.testing import FakeMachine


@attrs.frozen
class Config:
    pass


class Machine(FakeMachine):
    provider = "fleeting"

    def __init__(self, config):
        super().__init__()


@hookimpl
def gitmachine_register_providers():
    return [ProviderSpec(name="fleeting", factory="fleeting:Machine", config="fleeting:Config")]
"""


@pytest.fixture
def fleeting(tmp_path: Path) -> dict[str, str]:
    """Install a provider that cannot connect to its machines; return what finds it."""
    info = tmp_path / "site" / "fleeting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gitmachine]\nfleeting = fleeting\n")
    (tmp_path / "site" / "fleeting.py").write_text(FLEETING)
    return {"PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize("command", [["start"], ["run", "--keep"]])
def test_a_machine_that_nobody_could_connect_to_is_not_left(
    gitmachine: Run, remote: Path, home: Any, fleeting: dict[str, str], command: list[str]
) -> None:
    last = ["--", "true"] if command[0] == "run" else []
    done = gitmachine(*command, "-p", "fleeting", "-r", str(remote), *last, env=fleeting)
    message = "a machine of the provider 'fleeting' ends with the process that made it"
    assert (done.returncode, message in done.stderr, "`gitmachine run`" in done.stderr) == (2, True, True)
    assert home.machines() == []


def test_a_machine_that_nobody_can_connect_to_is_written_off_with_its_process(
    gitmachine: Run, remote: Path, home: Any, fleeting: dict[str, str]
) -> None:
    (remote / "hooks" / "pre-receive").write_text("#!/bin/sh\nexit 1\n")
    (remote / "hooks" / "pre-receive").chmod(0o755)
    options = ["-p", "fleeting", "-r", str(remote), "-s", "feat", "--name", "a"]
    done = gitmachine("run", *options, "--", "sh", "-c", "echo x > x", env=fleeting)
    assert (done.returncode, "the work is safe in" in done.stderr) == (123, True), done.stderr
    gone = gitmachine("stop", "a", env=fleeting)
    assert (gone.returncode, home.machines()) == (4, []), gone.stderr
    (remote / "hooks" / "pre-receive").unlink()
    rescued = [one["name"] for one in json.loads(ok(gitmachine("rescue", "--json", env=fleeting)))["rescues"]]
    assert rescued
    ok(gitmachine("rescue", "push", rescued[0], env=fleeting))
    assert show(remote, "feat:x") == "x"
