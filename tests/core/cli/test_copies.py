"""Forks and snapshots on the command line, of a provider that can make them. Time budget: 30 s."""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repos import git

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROVIDER = """
    import attrs

    from gitmachine import ProviderSpec, hookimpl
    from gitmachine.testing import FakeMachine


    @attrs.frozen(kw_only=True)
    class Config:
        snapshot: str | None = None


    def make(config):
        return FakeMachine(snapshot=config.snapshot)


    async def connect(machine_id, config):
        return await FakeMachine.connect(machine_id)


    @hookimpl
    def gitmachine_register_providers():
        here = "stand_in_provider"
        return [
            ProviderSpec(name="fake", factory=f"{here}:make", config=f"{here}:Config", connect=f"{here}:connect")
        ]
"""


@pytest.fixture
def machine(inside: Run, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine named a that can be copied; all command lines are of this process, in which it lives."""
    site = tmp_path / "site"
    info = site / "stand_in_provider-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "stand_in_provider.py").write_text(textwrap.dedent(PROVIDER))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gitmachine]\nstand-in = stand_in_provider\n")
    monkeypatch.syspath_prepend(str(site))
    done = inside("start", "-p", "fake", "-r", str(remote), "-s", "one", "--name", "a", "-e", "E=env")
    assert done.returncode == 0, done.stderr
    return "a"


def test_a_fork_goes_on_beside_the_machine_and_both_are_stopped_on_their_own(
    machine: str, inside: Run, remote: Path
) -> None:
    inside("exec", machine, "sh", "-c", "echo both > file")
    done = inside("fork", machine, "-s", "two", "--name", "b")
    assert (done.returncode, done.stdout) == (0, "b two\n"), done.stderr
    seen = inside("exec", "b", "sh", "-c", 'cat file; echo "$E"; echo copy > file; git branch --show-current')
    assert seen.stdout == "both\nenv\ntwo\n"
    assert inside("fork", machine, "-s", "two").returncode == 1
    third = json.loads(inside("fork", "b", "--json").stdout)
    assert third["session"] == f"gitmachine/{third['key']}"
    for name in ("b", third["key"], machine):
        stopped = inside("stop", name)
        assert stopped.returncode == 0, stopped.stderr
    shown = [git("-C", remote, "show", f"{branch}:file") for branch in ("one", "two", third["session"])]
    assert shown == ["both", "copy", "copy"]
    assert inside("ls").stdout.splitlines()[1:] == []


def test_snapshots_are_made_listed_used_and_deleted(machine: str, inside: Run, remote: Path) -> None:
    assert "no snapshot" in inside("snapshots", machine).stderr
    inside("exec", machine, "sh", "-c", "echo kept > ../kept")
    first = inside("snapshot", machine).stdout.strip()
    assert json.loads(inside("snapshot", machine, "--name", "mine", "--json").stdout) == {"snapshot": "mine"}
    assert inside("snapshots", machine).stdout.split() == [first, "mine"]
    assert json.loads(inside("snapshots", machine, "--delete", first, "--json").stdout) == {"snapshots": ["mine"]}
    assert inside("stop", machine).returncode == 0
    missing = inside("run", "-p", "fake", "-o", f"snapshot={first}", "-r", str(remote), "--", "true")
    assert (missing.returncode, f"there is no snapshot {first!r}" in missing.stderr) == (125, True)


@pytest.mark.requires("sandbox")
def test_what_a_provider_cannot_do_is_refused_with_its_name(inside: Run, remote: Path) -> None:
    assert inside("start", "-p", "local", "-r", str(remote), "-s", "one", "--name", "a").returncode == 0
    for command in ("fork", "snapshot", "snapshots"):
        refused = inside(command, "a")
        assert (refused.returncode, "local machines cannot" in refused.stderr) == (1, True), refused.stderr
