"""Snapshots outlive their containers: listed and removed by another process, on the engine alone. Time budget: 30 s."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gitmachine import MachineError
from gitmachine_local_docker._snapshots import all_snapshots, drop_snapshot
from support.repos import make_remote

pytestmark = pytest.mark.requires("docker")


@pytest.fixture
def snapshot_name(docker):
    """A name for a snapshot, which is gone after the test."""
    name = docker.name("snap")
    yield name
    left = docker.docker("images", "--quiet", "--no-trunc", name).stdout.split()
    for image in set(left):
        docker.docker("rmi", "--force", image)


async def names(config, *machine_ids):
    """Return the snapshots that are of these machines, by name."""
    found = await all_snapshots(machine_ids, config)
    return [one.name for one in found if one.machine_id in machine_ids]


async def test_a_snapshot_is_listed_and_removed_after_its_container_is_gone(making, docker, snapshot_name):
    config = making.config(image=docker.busybox)
    async with making.running(image=docker.busybox) as machine:
        for tag in ("one", "two"):
            await machine.snapshot(f"{snapshot_name}:{tag}")
        container = machine.id
    assert await names(config, container) == [f"{snapshot_name}:one", f"{snapshot_name}:two"]
    (info, _) = [one for one in await all_snapshots((), config) if one.machine_id == container]
    assert info.size_bytes > 0
    assert info.created is not None
    await drop_snapshot(f"{snapshot_name}:one", config)
    await drop_snapshot(f"{snapshot_name}:one", config)
    assert await names(config, container) == [f"{snapshot_name}:two"]
    with pytest.raises(MachineError, match="no snapshot"):
        await drop_snapshot(docker.busybox, config)


async def test_a_snapshot_that_lost_its_name_is_known_by_its_id(making, docker, snapshot_name):
    config = making.config(image=docker.busybox)
    async with making.running(image=docker.busybox) as machine:
        for content in (b"one", b"two"):
            await machine.write_file("file", content)
            await machine.snapshot(snapshot_name)
        container = machine.id
    older, newer = await names(config, container)
    assert newer == f"{snapshot_name}:latest"
    assert older.startswith("sha256:")
    await drop_snapshot(older, config)
    assert await names(config, container) == [newer]


async def test_snapshots_of_others_are_theirs(making, docker, snapshot_name, monkeypatch):
    config = making.config(image=docker.busybox)
    monkeypatch.setattr("gitmachine_local_docker._create.owner", lambda: "somebody@elsewhere")
    async with making.running(image=docker.busybox) as machine:
        await machine.snapshot(snapshot_name)
        container = machine.id
    assert container not in [one.machine_id for one in await all_snapshots((), config)]
    assert await names(config, container) == [f"{snapshot_name}:latest"]


async def test_a_snapshot_that_a_machine_lives_on_and_the_image_of_a_fork_stay(making, docker, snapshot_name):
    config = making.config(image=docker.busybox)
    async with making.running(image=docker.busybox) as machine:
        await machine.snapshot(snapshot_name)
        copy = await machine.fork()
        try:
            assert await names(config, machine.id) == [f"{snapshot_name}:latest"]
        finally:
            await copy.stop()
        async with making.running(image=snapshot_name, git="unchecked"):
            with pytest.raises(MachineError, match=r"conflict|using"):
                await drop_snapshot(snapshot_name, config)
        container = machine.id
    assert await names(config, container) == [f"{snapshot_name}:latest"]


async def test_an_engine_that_is_not_there_is_an_error(making, docker):
    with pytest.raises(MachineError, match="nonexistent"):
        await all_snapshots((), making.config(image=docker.busybox, docker_host="unix:///nonexistent/docker.sock"))


def test_other_processes_list_and_delete_the_snapshots_of_a_machine_that_has_ended(docker, snapshot_name, tmp_path):
    remote = make_remote(tmp_path / "remote.git", commits=1)

    def gitmachine(*arguments):
        argv = [sys.executable, "-m", "gitmachine", *arguments]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done

    options = [f"image={docker.debian}", "network=none", "pull=never"]
    given = [word for option in options for word in ("-o", option)]
    gitmachine("start", "-p", "docker", *given, "-r", str(remote), "-s", "feat", "--name", "a")
    made = gitmachine("snapshot", "a", "--name", snapshot_name).stdout.strip()
    gitmachine("stop", "a")
    assert gitmachine("snapshots", "a").stdout.split() == [made]
    assert made in gitmachine("snapshots", "-p", "docker").stdout
    assert "made on purpose" in gitmachine("gc").stdout
    (entry,) = [
        one for one in json.loads(gitmachine("snapshots", "--json").stdout)["snapshots"] if one["snapshot"] == made
    ]
    assert (entry["machine"], entry["state"], entry["provider"]) == ("a", "stopped", "local_docker")
    gitmachine("snapshots", "--delete", snapshot_name)
    assert gitmachine("snapshots", "a").stdout == ""
    assert docker.docker("image", "inspect", made, code=None).returncode != 0
