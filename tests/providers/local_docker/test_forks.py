"""A client is killed by SIGKILL in the middle of a fork: neither a container nor an image of the copy is left.

Time budget: 40 s.
"""

from __future__ import annotations

import asyncio

import pytest

from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, recover_all
from support.crashing import crash
from support.repos import git, make_remote, show

pytestmark = pytest.mark.requires("docker")

ENGINE = "gitmachine_local_docker._engine:Engine"
MACHINE = "gitmachine_local_docker.machine:DockerMachine"


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "remote.git", commits=1)


@pytest.fixture(autouse=True)
def nothing_is_left(docker, making):
    """Remove what a test that fails leaves."""
    del making
    yield
    if left := docker.containers():
        docker.docker("rm", "--force", *left)


def images_of(docker, container):
    """Return the images that were made of a container, by whatever name."""
    return docker.docker("images", "--quiet", f"gitmachine-snapshot:{container[:12]}-*").stdout.split()


@pytest.mark.parametrize(
    "at",
    [
        (f"{ENGINE}.commit", "after"),
        (f"{ENGINE}.create", "before"),
        (f"{ENGINE}.create", "after"),
        (f"{ENGINE}.start", "after"),
        (f"{MACHINE}.fork", "after"),
        ("gitmachine.git.workspace:Workspace.rename_branch", "after"),
    ],
    ids=lambda at: f"{at[0].rpartition('.')[2]}-{at[1]}",
)
async def test_a_fork_whose_client_is_killed_leaves_no_container_and_no_image(at, docker, remote):
    plan = {
        "provider": "local_docker",
        "repository": f"file://{remote}",
        "options": {"image": docker.debian, "pull": "never", "network": "none"},
        "late": True,
        "before": [["write", "new.txt", "work"]],
        "steps": [["fork", "two"]],
        "at": at,
    }
    await asyncio.to_thread(crash, plan)
    async with await Journal.aopen(Places.default().ensure()) as journal:
        (original,) = [one.machine_id for one in await journal.machines() if one.session == "feature"]

    assert [one.problem for one in await recover_all() if one.problem] == []
    assert docker.containers() == [original]
    assert images_of(docker, original) == []

    assert all(one.ok for one in await collect_garbage() if one.kind == "machine")
    assert show(remote, "feature:new.txt") == "work"
    assert "two" not in git("-C", remote, "branch", "--list")
    assert docker.containers() == []
