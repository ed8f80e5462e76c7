"""Forks and snapshots on the command line, of a provider that can make them. Time budget: 30 s."""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitmachine.testing.fake import copies
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

KEEPER = """
    import attrs

    import stand_in_provider
    from gitmachine import MachineError, ProviderSpec, SnapshotInfo, hookimpl
    from gitmachine.testing.fake import copies


    async def snapshots(machine_ids, config):
        if config.snapshot == "down":
            raise MachineError("the store of snapshots is down", provider="fake")
        return [SnapshotInfo(name=one.name, machine_id=one.origin, size_bytes=2048) for one in copies.all_snapshots()]


    async def delete_snapshot(snapshot, config):
        copies.delete_snapshot(snapshot)


    @hookimpl
    def gitmachine_register_providers():
        here = "keeping_provider"
        (spec,) = stand_in_provider.gitmachine_register_providers()
        return [attrs.evolve(spec, snapshots=f"{here}:snapshots", delete_snapshot=f"{here}:delete_snapshot")]
"""


def install(site: Path, plugin: str) -> None:
    """Put both modules on a path, and have one of them found as a plugin."""
    info = site / "stand_in_provider-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "stand_in_provider.py").write_text(textwrap.dedent(PROVIDER))
    (site / "keeping_provider.py").write_text(textwrap.dedent(KEEPER))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gitmachine]\nstand-in = {plugin}\n")


@pytest.fixture
def keeping(
    inside: Run, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], str]]:
    """Start machines of a provider that keeps snapshots; returns a function that does, and takes one of each."""
    forget_snapshots()
    install(tmp_path / "site", "keeping_provider")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def start(name: str) -> str:
        done = inside("start", "-p", "fake", "-r", str(remote), "-s", f"of-{name}", "--name", name)
        assert done.returncode == 0, done.stderr
        return inside("snapshot", name, "--name", f"snap-{name}:1").stdout.strip()

    yield start
    forget_snapshots()


def forget_snapshots() -> None:
    """Remove the snapshots of this process, which other tests share."""
    for one in copies.all_snapshots():
        copies.delete_snapshot(one.name)


@pytest.fixture
def machine(inside: Run, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine named a that can be copied; all command lines are of this process, in which it lives."""
    install(tmp_path / "site", "stand_in_provider")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
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


def listed(inside: Run, *arguments: str) -> list[tuple[str, str, str]]:
    """Return each snapshot with its machine and what became of that."""
    found = json.loads(inside("snapshots", "--json", *arguments).stdout)["snapshots"]
    return [(one["snapshot"], one["machine"], one["state"]) for one in found]


def test_snapshots_of_machines_that_have_ended_are_listed_and_deleted(
    keeping: Callable[[str], str], inside: Run
) -> None:
    for name in ("a", "b"):
        keeping(name)
    assert inside("stop", "a").returncode == 0
    assert inside("snapshots", "a").stdout == "snap-a:1\n"
    assert listed(inside) == [("snap-a:1", "a", "stopped"), ("snap-b:1", "b", "running")]
    table = inside("snapshots", "-p", "fake").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["SNAPSHOT", "MACHINE", "STATE", "PROVIDER", "MADE", "SIZE"],
        ["snap-a:1", "a", "stopped", "fake", "-", "2.0", "KiB"],
        ["snap-b:1", "b", "running", "fake", "-", "2.0", "KiB"],
    ]
    told = inside("gc")
    assert "snapshots 1 of fake: the machines that they were made of are not alive: left alone" in told.stdout
    assert told.returncode == 0
    assert json.loads(inside("gc", "--json").stdout)["collected"][-1]["kind"] == "snapshots"
    assert [name for name, _, _ in listed(inside)] == ["snap-a:1", "snap-b:1"]
    assert listed(inside, "--delete", "snap-a") == [("snap-b:1", "b", "running")]
    assert inside("snapshots", "a", "--delete", "snap-a:1").stderr == "gitmachine: no snapshot\n"
    assert "snapshots" not in inside("gc").stdout
    missing = inside("snapshots", "--delete", "snap-a")
    assert (missing.returncode, "no snapshot is called 'snap-a'; there are: snap-b:1" in missing.stderr) == (1, True)
    assert inside("stop", "b").returncode == 0
    assert inside("snapshots", "b", "--delete", "snap-b:1").returncode == 0
    assert inside("snapshots").stderr == "gitmachine: no snapshot\n"


def test_a_name_that_fits_several_snapshots_deletes_none(keeping: Callable[[str], str], inside: Run) -> None:
    keeping("a")
    inside("snapshot", "a", "--name", "snap-a:2")
    refused = inside("snapshots", "--delete", "snap-a")
    assert (refused.returncode, "fits several snapshots: snap-a:1 of a (fake)" in refused.stderr) == (1, True)
    assert inside("snapshots", "a").stdout.split() == ["snap-a:1", "snap-a:2"]
    assert inside("snapshots", "a", "-p", "fake").returncode == 2
    assert "cannot list snapshots by itself" in inside("snapshots", "-p", "local").stderr


def test_a_provider_that_cannot_be_asked_hides_no_other(
    keeping: Callable[[str], str], inside: Run, tmp_path: Path
) -> None:
    keeping("a")
    (tmp_path / "gitmachine.toml").write_text('[providers.fake]\nsnapshot = "down"\n')
    done = inside("snapshots")
    assert "the provider 'fake' could not be asked for snapshots: the store of snapshots is down" in done.stderr
    assert "snap-a:1" in done.stdout


@pytest.mark.requires("sandbox")
def test_what_a_provider_cannot_do_is_refused_with_its_name(inside: Run, remote: Path) -> None:
    assert inside("start", "-p", "local", "-r", str(remote), "-s", "one", "--name", "a").returncode == 0
    for command in ("fork", "snapshot", "snapshots"):
        refused = inside(command, "a")
        assert (refused.returncode, "local machines cannot" in refused.stderr) == (1, True), refused.stderr
