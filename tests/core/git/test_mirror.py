"""The mirror: complete, cheap when nothing is new, and served to nobody whose credential does not read the remote.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat

import pytest

from gitmachine.errors import CloneError, StateError
from gitmachine.git.credentials import credential_source, no_credential
from gitmachine.git.host import HostGit, Limits
from gitmachine.git.mirror import Mirror, read_refs
from gitmachine.git.names import check_repository
from support.gitserver import Mischief, serving
from support.repos import add_commit, git, make_empty_remote, make_remote, tip

TOKEN = "canary-token-0002"


def mirror(tmp_path, address, *, limits: Limits | None = None) -> Mirror:
    return Mirror(tmp_path / "mirrors", check_repository(str(address)), HostGit(limits=limits))


async def test_it_has_every_branch_and_tag_and_nothing_else(tmp_path, host):
    made = make_remote(tmp_path / "r.git", commits=5)
    add_commit(made, "topic/x", {"a": b"1"})
    git("-C", made, "tag", "-a", "-m", "one", "v1", "main")
    git("-C", made, "update-ref", "refs/pull/1/head", "main")
    copy = mirror(tmp_path, made)
    state = await copy.update(no_credential)
    assert await read_refs(host, copy.path) == dict(state.refs)
    assert sorted(state.refs) == ["refs/heads/main", "refs/heads/topic/x", "refs/tags/v1"]
    assert git("-C", copy.path, "rev-list", "--count", "main") == "5"
    git("-C", copy.path, "fsck", "--strict")
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o700


async def test_it_follows_branches_that_move_go_and_take_each_others_place(tmp_path, host):
    made = make_remote(tmp_path / "r.git", commits=2)
    git("-C", made, "branch", "a", "main")
    copy = mirror(tmp_path, made)
    await copy.update(no_credential)
    git("-C", made, "branch", "-D", "a")
    add_commit(made, "a/b", {"x": b"1"}, start=tip(made, "main"))
    git("-C", made, "update-ref", "refs/heads/main", "main~1")
    state = await copy.update(no_credential)
    assert await read_refs(host, copy.path) == dict(state.refs)
    assert sorted(state.refs) == ["refs/heads/a/b", "refs/heads/main"]
    assert state.branch("main") == tip(made, "main")


@pytest.mark.parametrize("bare", [(), ("--bare",)], ids=["with-a-working-tree", "bare"])
async def test_a_shallow_clone_is_told_as_what_it_is(tmp_path, bare):
    made = make_remote(tmp_path / "r.git", commits=3)
    git("clone", "-q", "--depth", "1", *bare, f"file://{made}", tmp_path / "shallow")
    with pytest.raises(CloneError, match=r"is a shallow clone, .*git -C \S+/shallow fetch --unshallow"):
        await mirror(tmp_path, tmp_path / "shallow").update(no_credential)


@pytest.mark.requires("git-http-backend")
async def test_when_nothing_is_new_the_remote_is_only_asked(tmp_path):
    make_remote(tmp_path / "r.git", commits=20)
    with serving(tmp_path) as server:
        copy = mirror(tmp_path, f"{server.url}/r.git")
        await copy.update(no_credential)
        server.requests.clear()
        await copy.update(no_credential)
        posts = [request for request in server.requests if request.startswith("POST")]
        assert len(server.requests) <= 2
        assert len(posts) <= 1


async def test_an_empty_remote_makes_an_empty_mirror_that_fills_later(tmp_path):
    made = make_empty_remote(tmp_path / "r.git")
    copy = mirror(tmp_path, made)
    assert dict((await copy.update(no_credential)).refs) == {}
    sha = add_commit(made, "main", {"x": b"1"})
    state = await copy.update(no_credential)
    assert (state.default_branch, state.branch("main")) == ("main", sha)


@pytest.mark.requires("git-http-backend")
async def test_a_cached_private_repository_is_not_given_to_somebody_without_access(tmp_path):
    make_remote(tmp_path / "r.git", commits=2)
    with serving(tmp_path, token=TOKEN) as server:
        copy = mirror(tmp_path, f"{server.url}/r.git")
        await copy.update(credential_source(copy.url, TOKEN))
        with pytest.raises(CloneError, match="did not accept the credential"):
            await copy.update(credential_source(copy.url, "somebody-else"))
    found = [path for path in copy.path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert found == []


@pytest.mark.requires("git-http-backend")
async def test_a_fetch_that_breaks_off_leaves_a_mirror_that_works_later(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=300)
    with serving(tmp_path) as server:
        copy = mirror(tmp_path, f"{server.url}/r.git")
        server.cut_off_pack = True
        with pytest.raises(CloneError, match="cannot be reached or broke off"):
            await copy.update(no_credential)
        server.cut_off_pack = False
        assert (await copy.update(no_credential)).branch("main") == tip(made, "main")
        git("-C", copy.path, "fsck", "--strict")
        server.misbehave(Mischief.FAIL)
        with pytest.raises(CloneError):
            await copy.update(no_credential)


async def test_many_updates_at_once_share_one_mirror(tmp_path, host):
    made = make_remote(tmp_path / "r.git", commits=30)
    copies = [mirror(tmp_path, made) for _ in range(6)]
    states = await asyncio.gather(*(copy.update(no_credential) for copy in copies))
    assert {state.branch("main") for state in states} == {tip(made, "main")}
    assert await read_refs(host, copies[0].path) == dict(states[0].refs)


async def test_an_update_waits_for_another_process_only_so_long(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=1)
    copy = mirror(tmp_path, made, limits=Limits(lock_seconds=0.2))
    copy.path.parent.mkdir(parents=True)
    held = os.open(copy.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="another process has been updating the mirror"):
            await copy.update(no_credential)
    finally:
        os.close(held)
    await copy.update(no_credential)


async def test_what_was_just_pushed_is_taken_from_this_host(tmp_path, host):
    made = make_remote(tmp_path / "r.git", commits=2)
    copy = mirror(tmp_path, made)
    await copy.update(no_credential)
    other = make_remote(tmp_path / "s.git", commits=2)
    sha = add_commit(other, "feat", {"x": b"1"}, start=tip(other, "main"))
    await copy.adopt(other, "feat", sha)
    assert (await read_refs(host, copy.path))["refs/heads/feat"] == sha


async def test_two_repositories_have_two_mirrors(tmp_path):
    one, two = mirror(tmp_path, "https://h/a"), mirror(tmp_path, "https://h/b")
    assert one.path != two.path
    assert mirror(tmp_path, "https://H:443/a/").path == one.path


async def test_a_sha256_repository_is_mirrored(tmp_path):
    made = tmp_path / "r.git"
    git("init", "-q", "--bare", "--object-format=sha256", "--initial-branch=main", made)
    sha = add_commit(made, "main", {"x": b"1"})
    state = await mirror(tmp_path, made).update(no_credential)
    assert len(sha) == 64
    assert state.branch("main") == sha
