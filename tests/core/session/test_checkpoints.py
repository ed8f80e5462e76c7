"""Checkpoints, rollbacks, and what a resumed machine is compared with. Time budget: 15 s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine
from gitmachine.errors import GitError, StateError
from gitmachine.machine import MachineState
from gitmachine.state.places import Places
from support.repos import git, show

Make = Callable[..., AsyncGitMachine]


async def test_a_checkpoint_changes_nothing_and_is_on_the_host(make: Make) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    async with make(on_event=lambda event, data, _gm: seen.append((event, data))) as gm:
        await gm.run("echo a > a.txt; git add a.txt; echo b > b.txt")
        before = (await gm.run("git status --porcelain; git rev-parse HEAD; sha1sum .git/index")).stdout
        made = await gm.checkpoint("first")
        assert (await gm.run("git status --porcelain; git rev-parse HEAD; sha1sum .git/index")).stdout == before
        assert await gm.checkpoints() == (made,)
        store = next(Places.default().sessions.glob("*.git"))
        assert git("-C", store, "show", f"{made.sha}:b.txt") == "b"
        assert ("checkpointed", {"number": 1, "sha": made.sha, "skipped": ()}) in seen


async def test_a_rollback_brings_files_and_branch_back_and_can_be_undone(make: Make, remote: Path) -> None:
    async with make() as gm:
        await gm.run("echo one > work.txt; echo keep > keep.txt")
        head = await gm.hash()
        first = await gm.checkpoint()
        await gm.run("echo two > work.txt; rm keep.txt; echo new > new.txt")
        later = await gm.commit("two")
        assert await gm.rollback(first.number) == first
        assert await gm.hash() == head
        assert await gm.read_text("work.txt") == "one\n"
        assert await gm.read_text("keep.txt") == "keep\n"
        assert "new.txt" not in await gm.list_files()
        undo = (await gm.checkpoints())[-1]
        await gm.rollback(undo.number)
        assert await gm.hash() == later
        assert await gm.read_text("new.txt") == "new\n"
    assert show(remote, "feature:work.txt") == "two"


async def test_a_checkpoint_that_does_not_exist_is_an_error_that_lists_those_that_do(make: Make) -> None:
    async with make() as gm:
        await gm.checkpoint()
        with pytest.raises(GitError, match=r"no checkpoint 7 \(there is: 1\)"):
            await gm.rollback(7)


async def test_checkpoints_work_while_paused(make: Make) -> None:
    async with make() as gm:
        await gm.run("echo a > a.txt")
        await gm.pause()
        assert (await gm.checkpoint()).number == 1
        assert gm.state is MachineState.PAUSED


async def test_checkpoints_never_reach_the_remote(make: Make, remote: Path) -> None:
    async with make() as gm:
        await gm.run("echo a > a.txt")
        await gm.checkpoint()
    refs = git("-C", remote, "for-each-ref", "--format=%(refname)").splitlines()
    assert sorted(refs) == ["refs/heads/feature", "refs/heads/main"]


@pytest.mark.parametrize("verb", ["nothing", "commit", "pull"])
async def test_a_machine_that_comes_back_as_it_was_is_verified(make: Make, verb: str) -> None:
    seen: list[dict[str, Any]] = []
    gm = make(
        on_event=lambda event, data, _gm: seen.append(data) if event == "resumed" else None,
        auto_commit=False,
    )
    async with gm:
        await gm.run("echo a > a.txt")
        await gm.pause()
        if verb == "commit":
            await gm.commit("while paused")
        elif verb == "pull":
            await gm.pull()
        await gm.resume()
        assert seen == [{"verified": True}]
        await gm.commit()
        await gm.push()


async def test_files_that_changed_meanwhile_are_told(make: Make) -> None:
    seen: list[dict[str, Any]] = []
    async with make(on_event=lambda event, data, _gm: seen.append(data) if event == "resumed" else None) as gm:
        await gm.pause()
        Path(gm.path, "sneaked.txt").write_text("in")
        await gm.resume()
    assert seen == [{"verified": False}]


async def test_a_machine_that_comes_back_as_an_older_one_is_an_error_that_says_where_the_work_is(make: Make) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo a > a.txt")
    await gm.pause()
    git("-C", gm.path, "reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(StateError, match="did not come back as it was paused") as caught:
        await gm.resume()
    store = next(Places.default().sessions.glob("*.git"))
    assert str(store) in str(caught.value)
    assert gm.state is MachineState.RUNNING
