"""The git verbs of the command line, and what the next process does when one of them was killed. Time budget: 30 s."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commandline import Started
from support.repos import add_commit, git, show, tip

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.requires("sandbox")


@pytest.fixture
def gitmachine(inside: Run) -> Run:
    """Run what nothing waits for in this process."""
    return inside


@pytest.fixture
def machine(gitmachine: Run, remote: Path) -> str:
    """A machine named a, on the session feat."""
    done = gitmachine("start", "-r", f"file://{remote}", "-s", "feat", "--name", "a")
    assert done.returncode == 0, done.stderr
    return "a"


@pytest.fixture
def slow_remote(remote: Path) -> Iterator[Path]:
    """The remote, whose hook holds each push until the file ``go`` is there."""
    hook = remote / "hooks" / "pre-receive"
    hook.write_text(f'#!/bin/sh\ntouch "{remote}/pushing"\nwhile [ ! -e "{remote}/go" ]; do sleep 0.02; done\n')
    hook.chmod(0o755)
    yield remote
    (remote / "go").touch()


def test_the_verbs_one_by_one(gitmachine: Run, machine: str, remote: Path, tmp_path: Path) -> None:
    script = r"printf 'a\0b\n' > binary; echo x > 'a b'; printf 'y' > \"$(printf 'a\nb')\"; chmod +x README.md"
    assert gitmachine("exec", machine, "--", "sh", "-c", script).returncode == 0
    patch: Any = gitmachine("diff", machine, text=False).stdout
    assert git("-C", remote, "worktree", "add", "-q", "--detach", tmp_path / "tree", "main") == ""
    git("apply", cwd=tmp_path / "tree", stdin=patch)
    assert (tmp_path / "tree" / "binary").read_bytes() == b"a\0b\n"
    shown = gitmachine("status", machine)
    assert {"A binary", "A a b"} <= set(shown.stdout.splitlines())
    status = json.loads(gitmachine("status", machine, "--json").stdout)
    assert len(status["changes"]) == 4
    assert (status["state"], status["session"], status["head"]) == ("running", "feat", tip(remote, "main"))
    assert gitmachine("checkpoint", machine, "-m", "before").stdout == "1\n"
    made = json.loads(gitmachine("commit", machine, "--json").stdout)
    nothing = gitmachine("commit", machine)
    assert (nothing.returncode, nothing.stdout, "nothing to commit" in nothing.stderr) == (0, "", True)
    pushed = json.loads(gitmachine("push", machine, "--json").stdout)
    assert (pushed["status"], pushed["remote_sha"]) == ("pushed", made["sha"])
    theirs = add_commit(remote, "feat", {"theirs": b"t\n"})
    assert gitmachine("pull", machine).stdout.strip() == theirs
    back = json.loads(gitmachine("rollback", machine, "1", "--json").stdout)
    assert (back["number"], back["message"], back["head"]) == (1, "before", tip(remote, "main"))
    listed = json.loads(gitmachine("checkpoints", machine, "--json").stdout)["checkpoints"]
    assert [one["number"] for one in listed] == [1, 2]
    none = gitmachine("rollback", machine, "9")
    assert (none.returncode, "there is no checkpoint 9" in none.stderr) == (1, True)


def test_a_status_shows_odd_names_as_bash_takes_them(gitmachine: Run, machine: str) -> None:
    script = 'set -e; printf 1 > "$(printf \'caf\\351\')"; printf 1 > "$(printf \'a\\nb\')"; touch "it\'s" "\\\\"'
    assert gitmachine("exec", machine, "--", "sh", "-c", script).returncode == 0
    shown = gitmachine("status", machine).stdout.splitlines()[2:]
    assert sorted(shown) == [r"A $'a\nb'", r"A $'caf\xe9'", "A \\", "A it's"]


def test_a_branch_that_has_diverged_is_published_after_a_pull_with_a_policy(
    gitmachine: Run, machine: str, remote: Path
) -> None:
    assert gitmachine("exec", machine, "--", "sh", "-c", "echo x > x").returncode == 0
    add_commit(remote, "feat", {"theirs": b"t\n"}, start=tip(remote, "main"))
    refused = gitmachine("stop", machine)
    assert (refused.returncode, "with the policy 'rebase' or 'merge'" in refused.stderr) == (3, True), refused.stderr
    refused = gitmachine("pull", machine)
    assert (refused.returncode, "the policy rebase or merge" in refused.stderr) == (1, True), refused.stderr
    unknown = gitmachine("pull", machine, "--policy", "force")
    assert (unknown.returncode, "'force' is not one of 'ff', 'rebase', 'merge'" in unknown.stderr) == (2, True)
    pulled = gitmachine("pull", machine, "--policy", "rebase")
    assert pulled.returncode == 0, pulled.stderr
    stopped = gitmachine("stop", machine)
    assert stopped.returncode == 0, stopped.stderr
    assert show(remote, "feat:x") == "x"
    assert show(remote, "feat:theirs") == "t"


def test_a_push_that_is_refused_is_3_and_its_work_can_be_brought_back(
    gitmachine: Run, machine: str, remote: Path
) -> None:
    assert gitmachine("exec", machine, "--", "sh", "-c", "echo x > x").returncode == 0
    add_commit(remote, "feat", {"theirs": b"t\n"}, start=tip(remote, "main"))
    stopped = gitmachine("stop", machine, "--json")
    assert stopped.returncode == 3
    found = json.loads(stopped.stdout)
    assert (found["status"], found["machine_kept"], found["pushed"]) == (3, True, False)
    assert Path(found["rescue"]["bundle"]).exists()
    forced = gitmachine("stop", machine, "--force")
    assert forced.returncode == 0, forced.stderr
    (saved, *_) = json.loads(gitmachine("rescue", "--json").stdout)["rescues"]
    assert (saved["branch"], saved["machine_kept"]) == ("feat", False)
    name = saved["name"]
    details = json.loads(gitmachine("rescue", "show", name, "--json").stdout)
    assert [change["path"] for change in details["files"]] == ["x"]
    refused = gitmachine("rescue", "push", name)
    assert (refused.returncode, "Traceback" in refused.stderr) == (3, False)
    pending = gitmachine("rescue", "drop", name)
    assert pending.returncode == 1
    pushed = gitmachine("rescue", "push", name, "--branch", "feat-saved")
    assert pushed.returncode == 0, pushed.stderr
    assert show(remote, "feat-saved:x") == "x"
    dropped = gitmachine("rescue", "drop", name)
    assert dropped.returncode == 0, dropped.stderr


@pytest.mark.parametrize("verb", ["push", "stop"])
def test_a_verb_whose_process_was_killed_is_finished_by_the_next(
    begin: Callable[..., Started],
    gitmachine: Run,
    machine: str,
    slow_remote: Path,
    verb: str,
) -> None:
    assert gitmachine("exec", machine, "--", "sh", "-c", "echo x > x").returncode == 0
    sha = gitmachine("commit", machine).stdout.strip()
    run = begin(verb, machine)
    run.until((slow_remote / "pushing").exists)
    run.signal(signal.SIGKILL)
    run.process.wait(60)
    (slow_remote / "go").touch()
    listed = gitmachine("ls")
    assert listed.returncode == 0, listed.stderr
    assert "gitmachine: machine a: " in listed.stderr
    assert listed.stdout.splitlines()[1].split()[0] == "a"
    last = gitmachine("stop", machine)
    assert last.returncode == 0, last.stderr
    assert tip(slow_remote, "feat") == sha
    assert gitmachine("ls").stdout == ""


def test_a_machine_whose_owner_was_killed_is_collected(
    begin: Callable[..., Started], gitmachine: Run, remote: Path
) -> None:
    run = begin("run", "-r", f"file://{remote}", "-s", "feat", "--", "sh", "-c", "echo x > x; echo up; sleep 600")
    assert run.read_line() == "up\n"
    run.signal(signal.SIGKILL)
    run.process.wait(60)
    (orphan,) = json.loads(gitmachine("ls", "--json").stdout)["machines"]
    assert (orphan["session"], orphan["orphan"], orphan["owner"]["alive"]) == ("feat", True, False)
    planned = json.loads(gitmachine("gc", "--dry-run", "--json").stdout)
    assert [one["kind"] for one in planned["collected"]] == ["machine"]
    assert "feat" not in git("-C", remote, "branch", "--format=%(refname:short)").split()
    collected = gitmachine("gc")
    assert collected.returncode == 0, collected.stderr
    assert show(remote, "feat:x") == "x"
    assert gitmachine("ls").stdout == ""
