"""Git's protocol over streams: one round trip in, exact commits out. Time budget: 20 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import CloneError, GitError
from gitmachine.git.carrying import Delivery
from gitmachine.git.mirror import make_bare
from gitmachine.git.streams import StreamInward, StreamOutward
from support.repos import git, make_empty_remote, make_remote, tip


async def test_a_repository_comes_in_with_one_spawned_process(bench, tmp_path):
    one = await bench(make_remote(tmp_path / "r.git", commits=5))
    await one.transport.open()
    before = len(one.machine.spawned)
    await one.transport.populate(one.machine, one.path, branch="feat")
    assert len(one.machine.spawned) == before + 1
    argv = one.machine.spawned[-1]
    assert "fd::3,4" in argv[2]
    assert "protocol.version=0" in argv[2]
    assert one.path in argv[4:]


async def test_what_was_promised_and_is_not_served_is_noticed(bench, tmp_path, host):
    one = await bench(make_remote(tmp_path / "r.git", commits=5))
    state = await one.transport.open()
    served = one.transport.mirror.path
    git("-C", served, "update-ref", "refs/heads/main", "main~1")
    delivery = Delivery(url="https://h/r", state=state, fresh=True)
    with pytest.raises(CloneError, match="does not have what was sent"):
        await StreamInward(host).deliver(one.machine, one.path, served, delivery)


async def test_exact_commits_come_out_whatever_refs_say(bench, tmp_path, host):
    one = await bench(make_remote(tmp_path / "r.git", commits=5))
    await one.begin()
    old = await one.sh("git rev-parse HEAD~3")
    target = tmp_path / "target.git"
    await make_bare(target)
    await StreamOutward(host).bring(one.machine, one.path, target, {"refs/incoming/0": old}, check=True)
    assert git("-C", target, "rev-parse", "refs/incoming/0") == old
    assert git("-C", target, "rev-list", "--count", "refs/incoming/0") == "2"


async def test_a_path_without_a_repository_is_named(bench, tmp_path, host):
    one = await bench(make_remote(tmp_path / "r.git", commits=1))
    await one.machine.write_file("plain/file", "x")
    where, target = f"{one.machine.workdir}/plain", make_empty_remote(tmp_path / "t.git")
    with pytest.raises(GitError, match="there is no git repository in"):
        await StreamOutward(host).bring(one.machine, where, target, {"refs/incoming/0": "a" * 40}, check=True)


async def test_a_submodules_repository_without_its_files_can_be_read(bench, tmp_path, host):
    one = await bench(make_remote(tmp_path / "r.git", commits=1))
    await one.begin()
    await one.sh("git --git-dir=.git config core.bare false && git --git-dir=.git config core.worktree ../../gone")
    target = tmp_path / "t.git"
    await make_bare(target)
    sha = tip(tmp_path / "r.git", "main")
    await StreamOutward(host).bring(one.machine, f"{one.path}/.git", target, {"refs/incoming/0": sha}, check=True)
    assert git("-C", target, "rev-parse", "refs/incoming/0") == sha
