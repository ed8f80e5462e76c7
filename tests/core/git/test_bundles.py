"""Bundles for machines without streams: parts, sizes, and a machine that lies about them. Time budget: 40 s."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from gitmachine.errors import GitError
from support.bench import QUICK
from support.machines import FilesMachine
from support.repos import add_commit, make_remote, tip


@pytest.fixture
async def one(tmp_path, bench):
    remote = make_remote(tmp_path / "r.git", commits=40)
    return await bench(remote, machine=FilesMachine, limits=attrs.evolve(QUICK, part_bytes=1500))


async def test_large_bundles_travel_in_parts_and_leave_nothing_behind(one, tmp_path):
    sizes: list[int] = []
    write, read = one.machine.write_file, one.machine.read_file

    async def counted_write(path, data):
        sizes.append(len(data))
        await write(path, data)

    async def counted_read(path, **options):
        data = await read(path, **options)
        sizes.append(len(data))
        return data

    one.machine.write_file, one.machine.read_file = counted_write, counted_read
    await one.begin()
    assert len(sizes) > 2
    sizes.clear()
    await one.sh("head -c 9000 /dev/urandom > blob.bin")
    sha = await one.commit("new.txt")
    await one.collect()
    assert len(sizes) > 2
    assert max(sizes) <= 1500
    assert await one.transport.store.has(sha)
    assert not [path for path in Path(one.path, ".git").iterdir() if path.name.startswith("gitmachine")]
    assert "refs/gitmachine" not in await one.sh("git for-each-ref")


async def test_only_what_is_new_travels(one, tmp_path):
    await one.begin()
    sizes: list[int] = []
    write = one.machine.write_file

    async def counted(path, data):
        sizes.append(len(data))
        await write(path, data)

    one.machine.write_file = counted
    await one.transport.refresh(one.machine, one.path)
    assert sizes == []
    add_commit(tmp_path / "r.git", "main", {"x": b"1"})
    await one.transport.refresh(one.machine, one.path)
    assert 0 < sum(sizes) < 1500
    assert await one.sh("git rev-parse origin/main") == tip(tmp_path / "r.git", "main")


async def test_an_agents_own_fetch_does_not_confuse_the_host(one, tmp_path):
    await one.begin()
    newer = add_commit(tmp_path / "r.git", "main", {"x": b"1"})
    await one.sh(f"git fetch -q {tmp_path}/r.git main:refs/remotes/origin/main && git reset -q --hard origin/main")
    sha = await one.commit("new.txt")
    await one.collect()
    assert await one.transport.store.has(newer)
    assert await one.transport.store.has(sha)


@pytest.mark.parametrize("lie", ["wrong", "cut", "huge"])
async def test_a_machine_that_sends_something_else_is_an_error(one, lie):
    await one.begin()
    await one.commit("new.txt")
    read = one.machine.read_file

    async def lying(path, **options):
        data = await read(path, **options)
        return {"wrong": b"# v2 git bundle\n\nPACKgarbage", "cut": data[: len(data) // 2], "huge": data * 10_000}[lie]

    one.machine.read_file = lying
    one.transport.host.limits = attrs.evolve(one.transport.host.limits, max_pack_bytes=1_000_000)
    with pytest.raises(GitError):
        await one.collect()
    assert await one.transport.store.refs() == {}
    one.machine.read_file = read
    await one.collect()
    assert await one.transport.store.refs() != {}
