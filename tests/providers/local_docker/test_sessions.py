"""Sessions in containers: the command line, and SIGKILL for the client, the container and the engine.

Looked at are the remote, the journal and the containers of the engine. Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from gitmachine import AsyncGitMachine, MachineLostError, MachineUnreachableError
from gitmachine.catalog import attach
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, recover_all
from gitmachine_local_docker import connect
from support.crashing import crash
from support.docker import DEBIAN, engine_of_its_own
from support.repos import git, make_remote, show, tip

pytestmark = pytest.mark.requires("docker")


async def collected_machines():
    """Collect garbage; what else is found on the engine may be of tests that run beside this one."""
    return [found for found in await collect_garbage() if found.kind == "machine"]


MAKING = "gitmachine_local_docker._making:Making"
ENGINE = "gitmachine_local_docker._engine:Engine"
PUSHED = "gitmachine.git.remote:Remote.push"
POPULATED = "gitmachine.git.relay:RelayTransport.populate"


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "remote.git", commits=3)


@pytest.fixture
def options(docker):
    return {"image": docker.debian, "pull": "never", "network": "none"}


@pytest.fixture
def plan(remote, options):
    return {"provider": "local_docker", "repository": f"file://{remote}", "options": options}


@pytest.fixture(autouse=True)
def nothing_is_left(docker, making):
    """Remove what a test that fails leaves."""
    del making
    yield
    if left := docker.containers():
        docker.docker("rm", "--force", *left)


def test_one_command_without_a_network_clones_and_pushes_through_the_host(docker, remote, gitmachine_home, tmp_path):
    argv = ["run", "-p", "docker", "-o", f"image={docker.debian}", "-o", "network=none", "-o", "pull=never"]
    argv += ["-r", str(remote), "-s", "feat", "--", "sh", "-c", "ls; cat /proc/net/dev | wc -l; echo hi > new.txt"]
    done = subprocess.run(
        [sys.executable, "-m", "gitmachine", *argv],
        cwd=tmp_path,
        env={**os.environ, "GITMACHINE_HOME": str(gitmachine_home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3"  # two lines of head, and the loopback
    assert show(remote, "feat:new.txt") == "hi"
    assert git("-C", remote, "rev-parse", "feat^") == tip(remote, "main")
    assert "Traceback" not in done.stderr
    assert docker.containers() == []


@pytest.mark.parametrize(
    "at",
    [
        (f"{ENGINE}.create", "before"),
        (f"{ENGINE}.create", "after"),
        (f"{ENGINE}.start", "after"),
        (f"{MAKING}.make", "after"),
        (POPULATED, "after"),
    ],
    ids=lambda at: f"{at[0].rpartition('.')[2]}-{at[1]}",
)
async def test_a_start_whose_client_is_killed_leaves_no_container(at, plan, docker):
    await asyncio.to_thread(crash, {**plan, "at": at})
    await recover_all()
    await collect_garbage()
    assert docker.containers() == []
    async with await Journal.aopen(Places.default().ensure()) as journal:
        assert await journal.machines() == []


async def test_a_command_whose_client_is_killed_is_over_and_the_work_is_published_by_the_next(plan, docker, remote):
    steps = [["run", "echo work > new.txt; echo begun > begun; exec sleep 1000"]]

    def begun(_process):
        deadline = time.monotonic() + 90
        while True:
            assert time.monotonic() < deadline
            for container in docker.containers():
                seen = docker.docker("exec", container, "ls", "/home/user/repo/begun", code=None)
                if seen.returncode == 0:
                    return
            time.sleep(0.1)

    await asyncio.to_thread(crash, {**plan, "steps": steps}, alive=begun)
    gm = await attach("a")
    assert await gm.read_file("new.txt") == b"work\n"
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


async def test_a_client_that_is_killed_between_push_and_removal_leaves_a_machine_that_is_found(plan, docker, remote):
    steps = [["write", "new.txt", "work"], ["stop"]]
    await asyncio.to_thread(crash, {**plan, "late": True, "at": (PUSHED, "after"), "steps": steps})
    assert show(remote, "feature:new.txt") == "work"
    assert len(docker.containers()) == 1
    await recover_all()
    collected = await collected_machines()
    assert all(item.ok for item in collected)
    assert docker.containers() == []


STEPS = [["write", "new.txt", "checkpointed"], ["checkpoint"], ["write", "later.txt", "later"], ["die"]]


async def test_a_container_that_is_killed_after_its_client_is_started_again_and_its_work_published(
    plan, docker, remote
):
    await asyncio.to_thread(crash, {**plan, "steps": STEPS})
    docker.docker("kill", *docker.containers())
    (collected,) = await collected_machines()
    assert collected.ok, collected
    assert show(remote, "feature:new.txt") == "checkpointed"
    assert show(remote, "feature:later.txt") == "later"
    assert docker.containers() == []


async def test_a_container_that_is_removed_after_its_client_leaves_what_was_checkpointed(plan, docker):
    await asyncio.to_thread(crash, {**plan, "steps": STEPS})
    docker.docker("rm", "--force", *docker.containers())
    (collected,) = await collected_machines()
    assert collected.ok, collected
    assert collected.rescue is not None
    assert collected.rescue.bundle is not None
    assert "refs/gitmachine/1" in git("ls-remote", collected.rescue.bundle)
    kept = git("-C", collected.rescue.repository, "show", "refs/gitmachine/1:new.txt")
    assert kept == "checkpointed"


async def test_a_container_that_is_killed_under_a_session_is_lost_and_its_files_can_still_be_had(
    remote, options, docker
):
    gm = AsyncGitMachine("local_docker", repository=f"file://{remote}", session="feature", options=options)
    await gm.start()
    await gm.write_file("new.txt", "checkpointed")
    await gm.checkpoint()
    container = gm.machine.id
    docker.docker("kill", container)
    with pytest.raises(MachineLostError, match="somebody killed it"):
        await gm.run("true")
    await gm.close()
    machine = await connect(container)
    try:
        assert await machine.read_file("repo/new.txt") == b"checkpointed"
    finally:
        await machine.stop()
    assert docker.containers() == []


STOP_ALL = "kill -STOP -1"  # all that runs in the container but its first process, and this one


@pytest.mark.parametrize("user", ["root", "user"])
async def test_an_agent_that_stops_every_process_keeps_no_work_from_being_published(user, remote, options, docker):
    gm = AsyncGitMachine(
        "local_docker", repository=f"file://{remote}", session="feature", options={**options, "user": user}
    )
    await gm.start()
    await gm.write_file("new.txt", "work")
    docker.docker("exec", "-u", user, gm.machine.id, "bash", "-c", STOP_ALL)
    async with asyncio.timeout(120):  # a git command may take ten minutes
        receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:new.txt") == "work"
    assert docker.containers() == []


@pytest.mark.requires("own-docker")
async def test_an_engine_that_is_killed_during_a_run_loses_no_work(remote, gitmachine_home):
    with engine_of_its_own(DEBIAN) as own:
        options = {"image": own.debian, "pull": "never", "network": "none", "docker_host": own.url}
        gm = AsyncGitMachine(
            "local_docker", repository=f"file://{remote}", session="feature", name="a", options=options
        )
        await gm.start()
        run = asyncio.ensure_future(gm.run("echo work > new.txt; echo begun > begun; exec sleep 1000"))
        deadline = time.monotonic() + 60
        while "begun" not in await gm.list_files():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        own.kill()
        await asyncio.wait([run], timeout=60)
        assert isinstance(run.exception(), MachineLostError | MachineUnreachableError), run
        await gm.close()
        own._kill_tasks()
        await asyncio.to_thread(own.start)
        again = await attach("a")
        assert await again.read_file("new.txt") == b"work\n"
        receipt = await again.stop()
        assert receipt is not None
        assert receipt.pushed
        assert own.containers() == []
    assert show(remote, "feature:new.txt") == "work"
