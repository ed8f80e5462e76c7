"""A fork: two sessions on two machines from one, each with its own branch. Time budget: 40 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import AsyncGitMachine, GitMachine, MachineError, MachineState, UnsupportedOperation
from gitmachine.errors import CheckoutError, StateError
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.testing import FakeMachine, FaultyMachine
from support.repos import git, make_remote


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "remote.git", commits=2)


async def alive():
    async with await Journal.aopen(Places.default()) as journal:
        return {record.session: record for record in await journal.machines()}


def show(remote, what):
    return git("-C", remote, "show", what)


def sessions(remote):
    return set(git("-C", remote, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split())


async def test_both_go_on_from_the_same_place_and_publish_to_their_own_branches(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="one", env={"E": "1"}) as gm:
        await gm.run("echo committed > committed; git add .; git commit -qm first; echo half > half", check=True)
        async with await gm.fork("two", name="copy") as copy:
            assert (copy.session, copy.name, copy.state) == ("two", "copy", MachineState.RUNNING)
            assert copy.id != gm.id
            assert copy.key != gm.key
            assert copy.machine.inner.label == copy.key
            found = await copy.run("cat committed half; git branch --format='%(refname:short)'; echo $E", check=True)
            assert found.stdout == "committed\nhalf\ntwo\n1\n"
            assert set(await alive()) == {"one", "two"}
            await copy.run("echo copy > half", check=True)
            await gm.run("echo original > half", check=True)
        assert set(await alive()) == {"one"}
        assert (await gm.run("cat half")).stdout == "original\n"
    assert show(remote, "one:half") == "original"
    assert show(remote, "two:half") == "copy"
    assert show(remote, "two:committed") == "committed"


async def test_a_repository_at_a_path_of_its_own_is_there_in_the_copy_too(remote, tmp_path):
    machine = FakeMachine()
    await machine.start()  # its directory is known from now on
    path = f"{machine.workdir}/deep/down"
    async with AsyncGitMachine(machine, repository=str(remote), session="one", path=path) as gm:
        assert gm.path == path
        async with await gm.fork("two") as copy:
            assert copy.path == f"{copy.machine.workdir}/deep/down" != path
            assert (await copy.run("git branch --show-current", check=True)).stdout == "two\n"
        assert (await gm.run("git branch --show-current", check=True)).stdout == "one\n"


async def test_an_unnamed_fork_has_a_fresh_branch_and_outlives_the_original(remote):
    gm = AsyncGitMachine(FakeMachine(), repository=str(remote))
    await gm.start()
    copy = await gm.fork()
    assert copy.session == f"gitmachine/{copy.key}"
    await gm.run("echo x > mine", check=True)
    await gm.stop()
    await copy.run("echo y > its", check=True)
    await copy.stop()
    assert {gm.session, copy.session} <= sessions(remote)
    assert "its" in git("-C", remote, "ls-tree", "--name-only", copy.session)
    assert "mine" not in git("-C", remote, "ls-tree", "--name-only", copy.session)


async def test_a_fork_of_a_rebase_that_is_going_on_and_of_a_fork(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="one") as gm:
        await gm.run("git checkout -q --detach; echo staged > s; git add s", check=True)
        async with await gm.fork("two") as copy, await copy.fork("three") as third:
            found = await third.run("git branch --format='%(refname:short)'; git status --porcelain", check=True)
            assert found.stdout.splitlines()[-2:] == ["three", "A  s"]
            await third.run("git checkout -q three", check=True)
            await copy.run("git checkout -q two", check=True)
        await gm.run("git checkout -q one", check=True)
    assert {"one", "two", "three"} <= sessions(remote)


async def test_detached_runs_and_checkpoints_stay_with_the_original(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="one") as gm:
        run = await gm.spawn("echo out; exec sleep 1000")
        await gm.checkpoint("before")
        async with await gm.fork("two") as copy:
            assert await copy.runs() == ()
            assert await copy.checkpoints() == ()
            await copy.checkpoint("of the copy")
            own = await copy.spawn("echo own")
            assert (await own.output(60)).stdout == "own\n"
        assert len(await gm.checkpoints()) == 1
        assert [info.id for info in await gm.runs()] == [run.id]
        await run.kill()


async def test_a_branch_that_exists_is_refused_and_nothing_is_made(remote):
    git("-C", remote, "branch", "taken", "main")
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="one") as gm:
        await gm.run("git branch local-one", check=True)
        for name in ("taken", "taken/below", "local-one"):
            with pytest.raises(CheckoutError, match=name):
                await gm.fork(name)
        with pytest.raises(StateError, match="one"):
            await gm.fork("one")
        assert set(await alive()) == {"one"}
        assert (await gm.run("git branch --show-current")).stdout == "one\n"


async def test_a_copy_that_cannot_be_made_leaves_nothing(remote):
    machine = FaultyMachine(FakeMachine())
    async with AsyncGitMachine(machine, repository=str(remote), session="one") as gm:
        machine.fail("fork", MachineError("no more room"))
        with pytest.raises(MachineError, match="no more room"):
            await gm.fork("two")
        machine.hang("fork")
        forking = asyncio.ensure_future(gm.fork("two"))
        while machine.calls["fork"] < 2:
            await asyncio.sleep(0.01)
        forking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forking
        assert set(await alive()) == {"one"}
        async with await gm.fork("two"):
            assert set(await alive()) == {"one", "two"}


async def test_a_machine_that_cannot_be_copied_says_so(remote):
    async with AsyncGitMachine(FakeMachine(capabilities=()), repository=str(remote), session="one") as gm:
        with pytest.raises(UnsupportedOperation, match="fake machines cannot fork"):
            await gm.fork()


def test_a_blocking_fork_is_a_blocking_session(remote):
    with GitMachine(FakeMachine(), repository=str(remote), session="one") as gm:
        with gm.fork("two") as copy:
            assert isinstance(copy, GitMachine)
            copy.run("echo x > x", check=True)
        assert copy.receipt is not None
        assert copy.receipt.pushed
    assert show(remote, "two:x") == "x"


async def test_a_fork_of_an_empty_repository_begins_its_own_branch(tmp_path):
    git("init", "--quiet", "--bare", tmp_path / "empty.git")
    async with AsyncGitMachine(FakeMachine(), repository=str(tmp_path / "empty.git"), session="one") as gm:
        async with await gm.fork("two") as copy:
            await copy.run("echo x > x", check=True)
        await gm.run("echo y > y", check=True)
    assert sessions(tmp_path / "empty.git") == {"one", "two"}
    assert show(tmp_path / "empty.git", "two:x") == "x"
