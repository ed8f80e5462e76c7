"""Machines whose process is gone are found and collected; what ended machines left goes when its time has come.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine
from gitmachine.catalog import attach
from gitmachine.errors import StateError
from gitmachine.state.journal import Journal
from gitmachine.state.locks import MachineLock
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, rescues
from gitmachine.upkeep import garbage as garbage_module
from support.crashing import crash, end_local_machines, processes_under
from support.repos import add_commit, show, tip

pytestmark = [pytest.mark.requires("linux")]


@pytest.fixture(autouse=True)
def machines_end(gitmachine_home: Path) -> Iterator[None]:
    """Have no machine outlive a test that fails."""
    yield
    end_local_machines()


@pytest.fixture
def plan(remote: Path) -> dict[str, Any]:
    return {"repository": f"file://{remote}", "steps": [["write", "mine.txt", "my work"], ["die"]]}


async def test_a_dry_run_names_the_machine_whose_owner_is_gone_and_touches_nothing(plan, remote: Path) -> None:
    await asyncio.to_thread(crash, plan)
    (found,) = await collect_garbage(dry_run=True)
    assert (found.kind, found.label, found.session, found.provider) == ("machine", "a", "feature", "local")
    assert "is gone" in found.why
    assert "would be published to 'feature'" in found.done
    assert json.loads(json.dumps(found.as_dict()))["machine_id"] == found.machine_id
    with pytest.raises(AssertionError, match="rev-parse"):
        tip(remote, "feature")
    gm = await attach("a")
    assert await gm.read_file("mine.txt") == b"my work"
    await gm.stop()


async def test_an_orphans_work_is_committed_published_and_the_machine_removed(
    plan, remote: Path, gitmachine_home: Path
) -> None:
    await asyncio.to_thread(crash, plan)
    (found,) = await collect_garbage()
    assert found.ok
    assert found.receipt is not None
    assert found.receipt.remote_sha == tip(remote, "feature")
    assert show(remote, "feature:mine.txt") == "my work"
    assert processes_under(gitmachine_home) == {}
    assert await collect_garbage() == ()


async def test_work_that_cannot_be_published_is_rescued_and_its_machine_kept_until_forced(plan, remote: Path) -> None:
    await asyncio.to_thread(crash, plan)
    theirs = add_commit(remote, "feature", {"theirs.txt": b"theirs"}, start="refs/heads/main^0")

    (found,) = await collect_garbage()
    assert not found.ok
    assert found.rescue is not None
    assert "is kept" in found.done
    assert len(await rescues()) == 1
    gm = await attach("a", adopt=False)
    assert await gm.read_file("mine.txt") == b"my work"
    await gm.close()

    found, *_ = await collect_garbage(force=True)
    assert found.ok
    assert found.rescue is not None
    assert tip(remote, "feature") == theirs
    with pytest.raises(StateError, match="has ended"):
        await attach("a")


async def test_without_auto_commit_an_orphans_work_is_rescued_and_its_machine_kept(plan, remote: Path) -> None:
    await asyncio.to_thread(crash, {**plan, "auto_commit": False})
    (found,) = await collect_garbage()
    assert not found.ok
    assert "auto_commit is off" in found.done
    assert found.rescue is not None
    assert found.rescue.machine_kept
    (found,) = await collect_garbage(force=True)
    assert found.ok
    assert [work.machine_kept for work in await rescues()] == [False]


async def test_a_machine_that_a_living_process_drives_is_no_garbage(remote: Path) -> None:
    gm = AsyncGitMachine("local", repository=f"file://{remote}", options={"isolation": "none"})
    await gm.start()
    assert await collect_garbage() == ()
    await gm.stop()


async def test_an_orphan_that_cannot_be_reached_from_here_is_kept_and_the_next_one_collected(
    plan, make, remote: Path
) -> None:
    custom = make(session="custom", name="custom")
    await custom.start()
    async with await Journal.aopen(Places.default()) as journal:
        await journal.update_machine(custom.key, owner_pid=2**22 + 1, owner_start="never")
    await asyncio.to_thread(crash, plan)
    by_label = {one.label: one for one in await collect_garbage()}
    assert by_label["a"].ok
    assert not by_label["custom"].ok
    assert "kept" in by_label["custom"].done


async def test_what_ended_machines_left_goes_after_its_retention_but_never_the_only_copy(rejected, make) -> None:
    await rejected.gm.stop(force=True)
    done = make(session="done")
    await done.start()
    await done.write_file("done.txt", "published")
    await done.stop()
    places = Places.default()
    (places.machines / done.key).mkdir(parents=True, exist_ok=True)
    parts = ("*.git", "*.git/*", "*.git/objects/*")
    for path in [path for part in parts for path in places.sessions.glob(part)]:
        os.utime(path, (1, 1))

    kinds = [one.kind for one in await collect_garbage()]
    assert kinds == ["folder"], "what ended just now is kept"

    told = await collect_garbage(retention_days=0, dry_run=True)
    found = await collect_garbage(retention_days=0)
    assert [one.kind for one in told if one.kind != "lock"] == [one.kind for one in found if one.kind != "lock"]
    repositories = {one.key: one for one in found if one.kind == "repository"}
    assert repositories[done.key].ok
    assert not repositories[rejected.gm.key].ok
    assert "rescue" in repositories[rejected.gm.key].done
    assert [path.stem for path in places.sessions.glob("*.git")] == [rejected.gm.key]
    assert next(one for one in found if one.kind == "rows").label == "2 ended machines"
    async with await Journal.aopen(places) as journal:
        assert await journal.machines(include_ended=True) == []
    assert [path.name for path in places.locks.iterdir()] == ["gc.lock"]


async def test_local_machines_that_the_journal_does_not_know_are_only_reported(plan, gitmachine_home: Path) -> None:
    await asyncio.to_thread(crash, plan)
    for path in (gitmachine_home / "state").glob("journal.db*"):
        path.unlink()
    found = await collect_garbage()
    assert {one.kind for one in found} == {"folder", "unknown"}
    assert not any(one.ok for one in found)
    (unknown,) = (one for one in found if one.kind == "unknown")
    from gitmachine_local import LocalMachine

    machine = await LocalMachine.connect(unknown.machine_id)
    assert (await machine.read_file("repo/mine.txt")) == b"my work"
    await machine.stop()


async def test_one_collection_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage_module, "LOCK_SECONDS", 0.1)
    places = Places.default().ensure()
    async with MachineLock(places.locks / "gc.lock").exclusive(1, what="gc"):
        with pytest.raises(StateError, match="gc"):
            await collect_garbage()
