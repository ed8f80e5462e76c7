"""Sessions whose container is ended under them: what it holds is brought home, and then it is removed.

Looked at are the remote, the journal and the containers of the engine. Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from gitmachine import AsyncGitMachine, MachineError, MachineLostError, MachineState
from gitmachine.catalog import attach
from gitmachine.git.relay import RelayTransport
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, rescues
from gitmachine_local_docker import connect
from support.repos import git, make_remote, show

pytestmark = pytest.mark.requires("docker")


async def collected_machines():
    """Collect garbage; what else is found on the engine may be of tests that run beside this one."""
    return [found for found in await collect_garbage() if found.kind == "machine"]


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "remote.git", commits=3)


@pytest.fixture
def session(docker, remote, making):
    """Make a session, and remove what a test that fails leaves."""
    del making

    def make(**keywords):
        options = {"image": docker.debian, "pull": "never", "network": "none"}
        given = {"repository": f"file://{remote}", "session": "feature", "name": "a", "options": options, **keywords}
        return AsyncGitMachine("local_docker", **given)

    yield make
    if left := docker.containers():
        docker.docker("rm", "--force", *left)


async def rows():
    async with await Journal.aopen(Places.default().ensure()) as journal:
        return await journal.machines(include_ended=True)


async def state():
    (record,) = await rows()
    return record.state


async def worked(gm):
    """Have a file in a checkpoint and one that is nowhere but in the container."""
    await gm.start()
    await gm.write_file("kept.txt", "kept")
    await gm.checkpoint()
    await gm.write_file("new.txt", "work")


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
async def test_what_a_killed_container_holds_is_published_by_stop_which_removes_it(noticed, session, docker, remote):
    seen = []
    gm = session(on_event=lambda event, _data, _gm: seen.append(event), on_end=lambda gm: seen.append("end"))
    await worked(gm)
    docker.docker("kill", gm.machine.id)
    if noticed:
        with pytest.raises(MachineLostError, match="somebody killed it"):
            await gm.run("true")
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert (show(remote, "feature:kept.txt"), show(remote, "feature:new.txt")) == ("kept", "work")
    assert docker.containers() == []
    assert await state() == "stopped"
    assert [event for event in seen if event in {"lost", "reconnected", "end", "stopped"}] == [
        "lost",
        "reconnected",
        "end",
        "stopped",
    ]


async def test_git_that_was_killed_with_its_container_keeps_nobody_from_publishing(session, docker, remote):
    gm = session()
    await worked(gm)
    await gm.run("touch .git/index.lock")
    docker.docker("kill", gm.machine.id)
    assert (await gm.stop()).pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_container_that_is_killed_while_it_is_paused_is_stopped_with_its_work(session, docker, remote):
    gm = session()
    await worked(gm)
    await gm.pause()
    docker.docker("kill", gm.machine.id)
    assert (await gm.stop()).pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_container_that_is_killed_in_the_middle_of_a_stop_says_goodbye_once(session, docker, remote):
    ends = []

    async def killed(gm):
        ends.append("end")
        await gm.write_file("last.txt", "last")
        docker.docker("kill", gm.machine.id)

    gm = session(on_end=killed)
    await worked(gm)
    assert (await gm.stop()).pushed
    assert ends == ["end"]
    assert show(remote, "feature:last.txt") == "last"
    assert docker.containers() == []


async def test_a_lost_machine_whose_client_dies_is_collected_with_its_work(session, docker, remote):
    gm = session()
    await worked(gm)
    docker.docker("kill", gm.machine.id)
    with pytest.raises(MachineLostError):
        await gm.run("true")
    await gm.close()
    with subprocess.Popen(["true"]) as dead:  # what the journal has when the client is killed instead
        dead.wait()
    async with await Journal.aopen(Places.default()) as journal:
        (record,) = await journal.machines()
        await journal.update_machine(record.key, owner_pid=dead.pid, owner_start="0")
    (collected,) = await collected_machines()
    assert collected.ok, collected
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_lost_machine_that_is_left_is_still_there_for_the_next(session, docker, remote):
    gm = session()
    await worked(gm)
    docker.docker("kill", gm.machine.id)
    with pytest.raises(MachineLostError):
        await gm.run("true")
    await gm.close()
    again = await attach("a")
    assert (await again.run("cat new.txt")).stdout == "work"
    assert (await again.stop()).pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_container_that_is_removed_under_a_session_is_written_off_with_what_the_host_has(session, docker):
    gm = session()
    await worked(gm)
    docker.docker("rm", "--force", gm.machine.id)
    with pytest.raises(MachineLostError, match="somebody removed it") as caught:
        await gm.stop()
    assert any("what this host has of its work" in note for note in caught.value.__notes__)
    assert await state() == "lost"
    (saved,) = await rescues()
    assert not saved.machine_kept


async def test_a_container_that_does_not_start_again_stays_listed_and_says_how_its_files_are_had(
    session, docker, tmp_path
):
    gm = session()
    await worked(gm)
    container = gm.machine.id
    docker.docker("exec", container, "rm", "/bin/sh")
    docker.docker("kill", container)
    for _ in range(2):
        with pytest.raises(MachineError, match=f"docker cp {container[:12]}:/home/user .") as caught:
            await gm.stop()
        assert not isinstance(caught.value, MachineLostError)
        assert any("not written off" in note for note in caught.value.__notes__)
        assert docker.containers() == [container]
        assert await state() == "running"
    docker.docker("cp", f"{container[:12]}:/home/user", tmp_path / "files")
    assert (tmp_path / "files/repo/new.txt").read_text() == "work"
    docker.docker("rm", container)
    with pytest.raises(MachineLostError):
        await gm.stop()
    assert await state() == "lost"


async def test_a_container_that_is_killed_while_the_repository_goes_in_leaves_nothing(session, docker, monkeypatch):
    populate = RelayTransport.populate

    async def dying(self, machine, *arguments, **keywords):
        docker.docker("kill", machine.id)
        return await populate(self, machine, *arguments, **keywords)

    monkeypatch.setattr(RelayTransport, "populate", dying)
    with pytest.raises(MachineError):
        await session().start()
    assert docker.containers() == []
    assert await state() == "failed"


async def test_a_container_that_is_killed_under_a_callback_of_start_leaves_its_work_on_this_host(
    session, docker, remote
):
    async def work(gm):
        await gm.write_file("new.txt", "work")
        docker.docker("kill", gm.machine.id)
        await gm.run("true")

    with pytest.raises(MachineLostError) as caught:
        await session(on_start=work).start()
    assert any("is safe in" in note for note in caught.value.__notes__)
    (saved,) = await rescues()
    assert saved.bundle is not None
    (changes,) = (line.split()[0] for line in git("ls-remote", saved.bundle).splitlines() if "changes" in line)
    assert git("-C", saved.repository, "show", f"{changes}:new.txt") == "work"
    assert "refs/heads/feature" not in git("ls-remote", remote)
    assert docker.containers() == []
    assert await state() == "failed"


async def test_a_container_of_somebody_else_that_has_ended_is_not_started(making, docker):
    name = docker.name()
    docker.docker("run", "--name", name, docker.busybox, "true")
    try:
        with pytest.raises(MachineError, match=r"is exited: `docker start` it first") as caught:
            await asyncio.wait_for(connect(name), 60)
        assert not isinstance(caught.value, MachineLostError)
    finally:
        docker.docker("rm", "--force", name)


async def test_a_container_that_somebody_else_paused_is_stopped_with_its_work(session, making, docker, remote):
    gm = session()
    await worked(gm)
    await making.pause(gm.machine.id)
    async with asyncio.timeout(120):  # in what is frozen a git command would take ten minutes
        receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_container_that_somebody_else_paused_is_resumed(session, making, docker):
    gm = session()
    await worked(gm)
    await making.pause(gm.machine.id)
    async with asyncio.timeout(120):
        await gm.resume()
        assert (await gm.run("cat new.txt")).stdout == "work"
    await gm.stop()


async def test_a_container_that_somebody_else_paused_is_paused_with_its_work_on_this_host(session, making, docker):
    gm = session()
    await worked(gm)
    await making.pause(gm.machine.id)
    async with asyncio.timeout(120):
        await gm.pause()
    assert (gm.state, await state()) == (MachineState.PAUSED, "paused")
    docker.docker("unpause", gm.machine.id)
    docker.docker("rm", "--force", gm.machine.id)
    with pytest.raises(MachineLostError) as caught:
        await gm.stop()
    assert any("branch feature" in note for note in caught.value.__notes__)
    (saved,) = await rescues()
    assert git("-C", saved.repository, "show", f"{saved.sha}:new.txt") == "work"


async def test_a_machine_says_whether_somebody_else_has_paused_or_continued_it(making, docker):
    async with making.running(image=docker.busybox) as machine:
        await making.sh(machine, "true")
        await making.pause(machine.id)
        await machine.refresh()
        assert machine.state is MachineState.PAUSED
        docker.docker("unpause", machine.id)
        await machine.refresh()
        assert machine.state is MachineState.RUNNING
        assert (await making.sh(machine, "echo on")).stdout == "on\n"
        docker.docker("kill", machine.id)
        with pytest.raises(MachineLostError, match="somebody killed it"):
            await machine.refresh()
