"""The session repository's own answers, and checkpoints. Time budget: 30 s."""

from __future__ import annotations

import stat

import pytest

from gitmachine.errors import GitError
from gitmachine.git.store import SessionRepository, machine_ref
from support.repos import add_commit, git, make_remote, tip


@pytest.fixture
async def store(tmp_path, host):
    mirror = make_remote(tmp_path / "mirror.git", commits=5)
    made = SessionRepository(tmp_path / "sessions" / "s.git", host, mirror)
    await made.open()
    await made.open()
    return made


async def test_it_borrows_the_mirrors_objects_and_is_private(store):
    assert await store.has(tip(store.mirror, "main"))
    assert await store.refs("refs/") == {}
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert not list((store.path / "objects").glob("??"))
    assert not await store.has("f" * 40)


async def test_commits_are_counted(store):
    main = tip(store.mirror, "main")
    older = git("-C", store.mirror, "rev-parse", "main~2")
    topic = add_commit(store.mirror, "topic", {"x": b"1"}, start=older)
    assert await store.count(main, [older, "f" * 40]) == 2
    assert await store.ahead_behind(main, topic) == (2, 1)
    assert await store.ahead_behind(main, "f" * 40) is None
    assert await store.parents(topic) == (older,)


async def test_an_object_without_its_history_is_not_there(store, tmp_path):
    other = make_remote(tmp_path / "other.git", commits=3, branch="x")
    raw = git("-C", other, "cat-file", "commit", tip(other, "x")) + "\n"
    git("hash-object", "-t", "commit", "-w", "--stdin", cwd=store.path, stdin=raw.encode())
    alone = add_commit(other, "x", {"new": b"1"})
    raw = git("-C", other, "cat-file", "commit", alone) + "\n"
    sha = git("hash-object", "-t", "commit", "-w", "--stdin", cwd=store.path, stdin=raw.encode())
    assert await store.present([sha]) == {sha}
    assert not await store.has(sha)


async def test_another_repository_is_borrowed_from_once(store, tmp_path):
    other = make_remote(tmp_path / "other.git", commits=2, branch="x")
    extra = add_commit(other, "x", {"only here": b"1"})
    await store.borrow(other)
    await store.borrow(other)
    assert await store.has(extra)
    assert (store.path / "objects/info/alternates").read_text().count("other.git") == 1


async def test_checkpoints_are_numbered_and_remember_their_head(store):
    main = tip(store.mirror, "main")
    tree = git("-C", store.mirror, "rev-parse", "main^{tree}")
    for number in (1, 2):
        snapshot = git("-C", store.path, "commit-tree", "-m", f"snapshot {number}", "-p", main, tree)
        checkpoint = await store.add_checkpoint(snapshot)
        assert (checkpoint.number, checkpoint.sha, checkpoint.head) == (number, snapshot, main)
    assert [checkpoint.message for checkpoint in await store.checkpoints()] == ["snapshot 1", "snapshot 2"]
    with pytest.raises(GitError, match="was not collected"):
        await store.add_checkpoint("f" * 40)


def test_a_machine_cannot_pass_a_ref_of_its_own_for_a_nested_repositorys():
    assert machine_ref("refs/heads/x") == "refs/machine/heads/x"
    assert machine_ref("refs/heads/x", "abc") == "refs/machine/nested/abc/heads/x"
    assert machine_ref("refs/nested/abc/heads/x") == "refs/machine/own-nested/abc/heads/x"
    assert machine_ref("refs/own-nested/x") == "refs/machine/own-own-nested/x"
