"""A client is killed by SIGKILL at every instant: the next process says what was half done, and nothing is lost.

Looked at are the remote, the session repository, the journal and the processes of the host.
Time budget: 90 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitmachine.catalog import attach
from gitmachine.errors import StateError
from gitmachine.machine import MachineState
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord
from gitmachine.upkeep import collect_garbage, recover, recover_all
from support.crashing import crash, end_local_machines, processes_under
from support.repos import git, show, tip

pytestmark = [pytest.mark.requires("linux")]


@pytest.fixture(autouse=True)
def machines_end(gitmachine_home: Path) -> Iterator[None]:
    """Have no machine outlive a test that fails."""
    yield
    end_local_machines()


RECORDED = "gitmachine.state.journal:Journal.begin_machine"
LAUNCHED = "gitmachine_local._launch:_orphan"
CALL = "gitmachine_local._client:Channel.call"
STARTED = "gitmachine_local.machine:LocalMachine.start"
POPULATED = "gitmachine.git.relay:RelayTransport.populate"
CHECKED_OUT = "gitmachine.git.workspace:Workspace.checkout"
COMMITTED = "gitmachine.git.workspace:Workspace.commit"
PUSHED = "gitmachine.git.remote:Remote.push"
INTENDED = "gitmachine.state.journal:Journal.intend"
STOPPED = "gitmachine_local.machine:LocalMachine.stop"
ENDED = "gitmachine.state.journal:Journal.end_machine"
PAUSED = "gitmachine_local.machine:LocalMachine.pause"
RESUMED = "gitmachine_local.machine:LocalMachine.resume"
REMOVED = "gitmachine_local._processes:end"


async def rows(*, ended: bool = True) -> list[MachineRecord]:
    async with await Journal.aopen(Places.default().ensure()) as journal:
        return await journal.machines(include_ended=ended)


async def row() -> MachineRecord:
    (record,) = await rows()
    return record


async def nothing_runs(home: Path) -> None:
    deadline = time.monotonic() + 60
    while left := await asyncio.to_thread(processes_under, home):
        assert time.monotonic() < deadline, f"orphaned: {left}"
        await asyncio.sleep(0.05)


def leftovers(home: Path) -> list[str]:
    """What local machines have left on the host."""
    top = home / "state" / "local"
    return sorted(path.name for path in top.iterdir()) if top.is_dir() else []


@pytest.fixture
def plan(remote: Path) -> dict[str, Any]:
    return {"repository": f"file://{remote}"}


@pytest.mark.parametrize(
    "at",
    [
        (RECORDED, "after"),
        (STARTED, "before"),
        (LAUNCHED, "after"),
        (CALL, "before", "init"),
        (CALL, "before", "keep"),
        (CALL, "after", "keep"),
        (STARTED, "after"),
        (POPULATED, "after"),
        (CHECKED_OUT, "after"),
    ],
    ids=lambda at: "-".join(part.rpartition(".")[2] for part in at),
)
async def test_a_start_that_was_killed_is_undone_and_leaves_nothing(
    plan: dict[str, Any], at: tuple[str, ...], gitmachine_home: Path
) -> None:
    await asyncio.to_thread(crash, {**plan, "at": at})

    (recovery,) = await recover_all()

    assert recovery.state == "failed"
    assert "start was interrupted" in recovery.sentences[0]
    assert await rows(ended=False) == []
    await nothing_runs(gitmachine_home)
    assert leftovers(gitmachine_home) == []
    assert await recover_all() == ()


@pytest.mark.requires("sandbox")
@pytest.mark.parametrize(
    "at",
    [(LAUNCHED, "after"), (CALL, "before", "init"), (CALL, "before", "keep")],
    ids=["launched", "listening", "greeted"],
)
async def test_a_sandbox_whose_start_was_killed_leaves_nothing(
    plan: dict[str, Any], at: tuple[str, ...], gitmachine_home: Path
) -> None:
    await asyncio.to_thread(crash, {**plan, "isolation": "bubblewrap", "at": at})

    (recovery,) = await recover_all()

    assert recovery.state == "failed"
    await nothing_runs(gitmachine_home)
    assert leftovers(gitmachine_home) == []


async def test_a_start_that_was_killed_after_its_callback_had_worked_is_kept(
    plan: dict[str, Any], remote: Path, gitmachine_home: Path
) -> None:
    await asyncio.to_thread(crash, {**plan, "on_start": [["write", "new.txt", "work"], ["die"]]})

    (recovery,) = await recover_all()

    assert recovery.state == "running"
    assert "work had begun" in recovery.sentences[0]
    (collected,) = await collect_garbage()
    assert collected.ok
    assert show(remote, "feature:new.txt") == "work"
    await nothing_runs(gitmachine_home)


async def test_connecting_by_name_to_a_start_that_was_killed_says_so(plan: dict[str, Any]) -> None:
    await asyncio.to_thread(crash, {**plan, "at": (POPULATED, "after")})
    told: list[str] = []

    with pytest.raises(StateError, match="start was interrupted"):
        await attach("a", report=told.append)

    assert "there was no work in it" in told[0]


@pytest.mark.parametrize("isolation", ["none", pytest.param("bubblewrap", marks=pytest.mark.requires("sandbox"))])
async def test_a_command_dies_with_its_client_and_the_machine_goes_on(
    plan: dict[str, Any], isolation: str, gitmachine_home: Path
) -> None:
    script = "echo work > new.txt; echo begun; exec sleep 1000"
    steps = [["run", f"{script} > /dev/null"]]

    def wait(_process: object) -> None:
        deadline = time.monotonic() + 60
        while not list((gitmachine_home / "state/local").glob("*/home/repo/new.txt")):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    await asyncio.to_thread(crash, {**plan, "isolation": isolation, "steps": steps}, alive=wait)

    gm = await attach("a")
    assert await gm.read_file("new.txt") == b"work\n"
    left = await gm.run("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done 2>/dev/null")
    assert "sleep 1000" not in left.stdout
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    await nothing_runs(gitmachine_home)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_was_killed_can_be_done_again(plan: dict[str, Any], when: str, remote: Path) -> None:
    steps = [["write", "new.txt", "work"], ["commit", "mine"]]
    await asyncio.to_thread(crash, {**plan, "late": True, "at": (COMMITTED, when), "steps": steps})

    (recovery,) = await recover_all()
    assert recovery.state == "running"
    assert "commit was interrupted" in recovery.sentences[0]

    gm = await attach("a")
    sha = await gm.commit("mine")
    assert (sha is None) == (when == "after")
    await gm.stop()
    assert show(remote, "feature:new.txt") == "work"
    assert git("-C", remote, "log", "-1", "--format=%s", "feature") == "mine"


async def test_the_lock_of_a_git_that_was_killed_with_its_client_is_removed(
    plan: dict[str, Any], gitmachine_home: Path, remote: Path
) -> None:
    hook = "cd .git/hooks; printf '#!/bin/sh\\ntouch ../hooked; exec sleep 1000\\n' > pre-commit; chmod +x pre-commit"
    steps = [["run", hook], ["write", "new.txt", "work"], ["commit", "mine"]]

    def wait(_process: object) -> None:
        deadline = time.monotonic() + 60
        while not list((gitmachine_home / "state/local").glob("*/home/hooked")):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    await asyncio.to_thread(crash, {**plan, "steps": steps}, alive=wait)
    home = next((gitmachine_home / "state/local").glob("*/home"))
    (home / "repo/.git/index.lock").touch()  # what git leaves when it dies there, whether it did just now or not

    told: list[str] = []
    gm = await attach("a", report=told.append)
    assert any("index.lock" in sentence for sentence in told)
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:new.txt") == "work"


@pytest.mark.parametrize(("when", "arrived"), [("before", False), ("after", True)])
async def test_after_a_push_that_was_killed_the_remote_is_asked(
    plan: dict[str, Any], when: str, arrived: bool, remote: Path, gitmachine_home: Path
) -> None:
    steps = [["write", "new.txt", "work"], ["commit", "mine"], ["push"]]
    await asyncio.to_thread(crash, {**plan, "late": True, "at": (PUSHED, when), "steps": steps})

    recovery = await recover("a")

    assert recovery.state == "running"
    said = "after the remote had taken it" if arrived else "the remote has no such branch"
    assert any(said in sentence for sentence in recovery.sentences)
    (collected,) = await collect_garbage()
    assert collected.ok
    assert collected.receipt is not None
    assert show(remote, "feature:new.txt") == "work"
    await nothing_runs(gitmachine_home)
    assert leftovers(gitmachine_home) == []


@pytest.mark.parametrize(
    ("at", "state"),
    [
        ((COMMITTED, "before"), "running"),
        ((PUSHED, "before"), "running"),
        ((PUSHED, "after"), "running"),
        ((INTENDED, "before", "destroy"), "running"),
        ((INTENDED, "after", "destroy"), "stopped"),
        ((STOPPED, "before"), "stopped"),
        ((REMOVED, "before"), "stopped"),
        ((REMOVED, "after"), "stopped"),
        ((STOPPED, "after"), "stopped"),
        ((ENDED, "before"), "stopped"),
        ((ENDED, "after"), None),
    ],
    ids=lambda at: "-".join(part.rpartition(".")[2] for part in at) if isinstance(at, tuple) else str(at),
)
async def test_a_stop_that_was_killed_is_finished_or_can_be_done_again(
    plan: dict[str, Any], at: tuple[str, ...], state: str | None, remote: Path, gitmachine_home: Path
) -> None:
    steps = [["write", "new.txt", "work"], ["stop"]]
    await asyncio.to_thread(crash, {**plan, "late": True, "at": at, "steps": steps})

    found = await recover_all()

    assert [recovery.state for recovery in found] == ([] if state is None else [state]), found
    if state == "stopped":
        assert show(remote, "feature:new.txt") == "work"
        assert await rows(ended=False) == []
    await collect_garbage()
    assert (await row()).state == "stopped"
    assert show(remote, "feature:new.txt") == "work"
    await nothing_runs(gitmachine_home)
    assert leftovers(gitmachine_home) == []
    assert list((gitmachine_home / "state/machines").iterdir()) == []


async def test_a_stop_that_was_killed_is_not_finished_over_new_work(
    plan: dict[str, Any], remote: Path, gitmachine_home: Path
) -> None:
    steps = [["write", "new.txt", "work"], ["stop"]]
    await asyncio.to_thread(crash, {**plan, "late": True, "at": (STOPPED, "before"), "steps": steps})
    home = next((gitmachine_home / "state/local").glob("*/home"))
    (home / "repo/late.txt").write_text("somebody was faster")

    recovery = await recover("a")

    assert recovery.state == "running"
    assert "new work since" in recovery.sentences[0]
    (collected,) = await collect_garbage()
    assert collected.ok
    assert show(remote, "feature:late.txt") == "somebody was faster"


@pytest.mark.parametrize(
    ("before", "steps", "at", "state"),
    [
        ([], [["pause"]], (PAUSED, "before"), "running"),
        ([], [["pause"]], (PAUSED, "after"), "paused"),
        ([["pause"]], [["resume"]], (RESUMED, "before"), "paused"),
        ([["pause"]], [["resume"]], (RESUMED, "after"), "running"),
        ([["pause"]], [["diff"]], (RESUMED, "after"), "paused"),
    ],
    ids=["pausing", "paused", "resuming", "resumed", "awake-for-a-diff"],
)
async def test_after_a_pause_or_resume_that_was_killed_the_journal_says_what_the_machine_is(
    plan: dict[str, Any], before: list[Any], steps: list[Any], at: tuple[str, ...], state: str
) -> None:
    await asyncio.to_thread(crash, {**plan, "before": before, "late": True, "at": at, "steps": steps})

    recovery = await recover("a")

    assert recovery.state == state
    assert len(recovery.sentences) == 1
    gm = await attach("a")
    assert gm.state == MachineState(state)
    await gm.stop()


async def test_a_machine_that_is_gone_is_written_off_with_what_the_host_has(
    plan: dict[str, Any], gitmachine_home: Path, remote: Path
) -> None:
    steps = [["write", "new.txt", "work"], ["checkpoint"], ["write", "later.txt", "lost"], ["die"]]
    await asyncio.to_thread(crash, {**plan, "steps": steps})
    record = await row()
    from gitmachine_local._records import Record

    local = Record.load(record.machine_id or "")
    assert local is not None
    await asyncio.to_thread(local.destroy)

    (collected,) = await collect_garbage()

    assert collected.ok
    assert collected.rescue is not None
    assert collected.rescue.bundle is not None
    assert (await row()).state == "lost"
    refs = git("ls-remote", collected.rescue.bundle)
    assert "refs/gitmachine/1" in refs
    assert git("-C", collected.rescue.repository, "show", "refs/gitmachine/1:new.txt") == "work"


async def test_a_machine_that_was_left_on_purpose_is_nobodys_and_no_garbage(plan: dict[str, Any]) -> None:
    from gitmachine import AsyncGitMachine

    options = {"isolation": "none"}
    gm = AsyncGitMachine("local", repository=plan["repository"], session="feature", name="a", options=options)
    await gm.start()
    assert (await row()).owner_pid is not None
    other = await attach("a")
    await other.close()
    assert (await row()).owner_pid is not None, "an attached session let go of somebody else's machine"
    await gm.close()
    assert (await row()).owner_pid is None
    assert await collect_garbage() == ()
    await (await attach("a")).stop()


async def test_acting_on_an_orphan_adopts_it_and_looking_does_not(plan: dict[str, Any]) -> None:
    await asyncio.to_thread(crash, {**plan, "steps": [["die"]]})
    looking = await attach("a", adopt=False)
    await looking.diff()
    await looking.close()
    (found,) = await collect_garbage(dry_run=True)
    assert found.kind == "machine"
    acting = await attach("a")
    await acting.close()
    assert await collect_garbage(dry_run=True) == ()
    await (await attach("a")).stop()


async def test_what_a_living_process_does_is_left_alone(plan: dict[str, Any], remote: Path) -> None:
    from gitmachine import AsyncGitMachine

    reached, go_on = asyncio.Event(), asyncio.Event()

    async def on_start(_gm: AsyncGitMachine) -> None:
        reached.set()
        await go_on.wait()

    gm = AsyncGitMachine(
        "local", repository=plan["repository"], session="feature", options={"isolation": "none"}, on_start=on_start
    )
    starting = asyncio.create_task(gm.start())
    await reached.wait()
    assert await recover_all() == ()
    go_on.set()
    await starting
    assert await recover_all() == ()
    await gm.stop()
    assert tip(remote, "feature")
