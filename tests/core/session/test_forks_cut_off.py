"""A client is killed by SIGKILL at every step of a fork: no copy is left over, and the original has all its work.

Looked at are the machines' directories, the journal and the remote. Time budget: 40 s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gitmachine.catalog import attach
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, recover_all
from support import copying
from support.crashing import crash
from support.repos import git, show, tip

JOURNAL = "gitmachine.state.journal:Journal"
COPYING = "support.copying"

MAKING = [
    (f"{JOURNAL}.intend", "before", "fork"),
    (f"{JOURNAL}.intend", "after", "fork"),
    (f"{JOURNAL}.begin_machine", "before"),
    (f"{JOURNAL}.begin_machine", "after"),
    (f"{JOURNAL}.intend", "after", "start"),
    ("gitmachine.steps.recording:remember", "after"),
    ("gitmachine.git.relay:RelayTransport.open", "after"),
    (f"{COPYING}:CopyingMachine._make", "after"),
    (f"{COPYING}:copy_entry", "before"),
    (f"{COPYING}:copy_entry", "after", None, 2),
    (f"{COPYING}:CopyingMachine.fork", "after"),
    (f"{JOURNAL}.update_machine", "after"),
    ("gitmachine.git.workspace:Workspace.rename_branch", "after"),
    ("gitmachine.machines.runs.client:Runs.forget", "after"),
    (f"{JOURNAL}.update_machine", "before", None, 2),
]
"""Before it is on record that the copy runs: whatever there is of it goes."""

MADE = [
    (f"{JOURNAL}.update_machine", "after", None, 2),
    (f"{JOURNAL}.done", "before"),
    (f"{JOURNAL}.done", "after"),
    (f"{JOURNAL}.done", "after", None, 2),
]
"""After that, it is a machine like any other: it is kept, and collected with its work."""


@pytest.fixture
def plan(remote: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "machines").mkdir()
    return {
        "provider": "copying",
        "plugin": COPYING,
        "options": {"root": str(tmp_path / "machines")},
        "repository": f"file://{remote}",
        "late": True,
        "before": [["write", "done.txt", "done"], ["commit", "first"], ["write", "half.txt", "half"]],
        "steps": [["fork", "two"]],
    }


def name_of(at: tuple[Any, ...]) -> str:
    return "-".join(str(part).rpartition(":")[2] for part in at if part is not None)


async def live() -> dict[str, str]:
    """Return the state of each live session of the journal."""
    async with await Journal.aopen(Places.default()) as journal:
        return {record.session: record.state for record in await journal.machines()}


def directories(plan: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(plan["options"]["root"]).iterdir())


def branches(remote: Path) -> set[str]:
    return set(git("-C", remote, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split())


@pytest.mark.parametrize("at", MAKING, ids=name_of)
async def test_a_copy_that_was_not_finished_is_removed_and_the_original_goes_on(
    plan: dict[str, Any], remote: Path, at: tuple[Any, ...]
) -> None:
    await asyncio.to_thread(crash, {**plan, "at": at})

    for recovery in await recover_all(plugins=copying.host()):
        assert recovery.problem is None
        assert {"feature": "fork was interrupted", "two": "start was interrupted"}[recovery.session] in str(recovery)

    assert await live() == {"feature": "running"}
    assert len(directories(plan)) == 1
    assert await recover_all(plugins=copying.host()) == ()
    gm = await attach("a", plugins=copying.host())
    assert (await gm.read_file("half.txt"), (await gm.hash())) == (b"half", tip(Path(gm.path), "feature"))
    copy = await gm.fork("two")
    await copy.write_file("half.txt", "of the copy")
    await copy.stop()
    await gm.stop()
    assert (show(remote, "feature:half.txt"), show(remote, "two:half.txt")) == ("half", "of the copy")
    assert directories(plan) == []


@pytest.mark.parametrize("at", MADE, ids=name_of)
async def test_a_copy_that_was_finished_is_a_machine_that_nobody_drives(
    plan: dict[str, Any], remote: Path, at: tuple[Any, ...]
) -> None:
    await asyncio.to_thread(crash, {**plan, "at": at})

    assert [recovery.problem for recovery in await recover_all(plugins=copying.host()) if recovery.problem] == []

    assert await live() == {"feature": "running", "two": "running"}
    assert len(directories(plan)) == 2
    assert [one.ok for one in await collect_garbage(plugins=copying.host()) if one.kind == "machine"] == [True, True]
    assert (show(remote, "feature:half.txt"), show(remote, "two:half.txt")) == ("half", "half")
    assert show(remote, "two:done.txt") == "done"
    assert directories(plan) == []
    assert await live() == {}


@pytest.mark.parametrize("at", MAKING[3::3], ids=name_of)
async def test_collecting_garbage_alone_publishes_the_original_and_nothing_of_a_half_made_copy(
    plan: dict[str, Any], remote: Path, at: tuple[Any, ...]
) -> None:
    await asyncio.to_thread(crash, {**plan, "at": at})

    collected = await collect_garbage(plugins=copying.host())

    assert all(one.ok for one in collected), collected
    assert directories(plan) == []
    assert show(remote, "feature:half.txt") == "half"
    assert "two" not in branches(remote)
    assert await live() == {}
