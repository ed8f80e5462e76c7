"""What a push brings to a remote: commits, files, contents. Time budget: 15 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import GitError
from gitmachine.git import outgoing as module
from gitmachine.git.outgoing import outgoing
from gitmachine.git.store import SessionRepository
from support.repos import add_commit, git, make_remote, tip


@pytest.fixture
async def store(tmp_path, host):
    mirror = make_remote(tmp_path / "mirror.git", commits=3)
    made = SessionRepository(tmp_path / "s.git", host, mirror)
    await made.open()
    return made


async def found(store, sha, known=()):
    return await outgoing(store, branch="feat", sha=sha, known=[tip(store.mirror, "main"), *known])


async def test_only_what_the_remote_lacks_is_listed_the_newest_first(store):
    base = tip(store.mirror, "main")
    one = add_commit(store.mirror, "feat", {"new": b"1", "dir/b": b"22"}, start=base)
    two = add_commit(store.mirror, "feat", {"dir/b": b"333"})
    commits = await found(store, two, known=["f" * 40])
    assert [commit.sha for commit in commits] == [two, one]
    assert (commits.branch, commits.sha, commits.repository, len(commits)) == ("feat", two, store.path, 2)
    assert [commit.sha for commit in commits[:1]] == [two]
    files = await commits.files()
    assert sorted((file.path, file.size_bytes) for file in files) == [("dir/b", 2), ("dir/b", 3), ("new", 1)]
    contents = {file.path: data async for file, data in commits.contents(files) if file.size_bytes != 2}
    assert contents == {"new": b"1", "dir/b": b"333"}
    by_size = {file.size_bytes: file for file in files}
    assert await commits.commit_with(by_size[1]) == one
    assert await commits.commit_with(by_size[3]) == two


async def test_a_file_that_was_removed_again_still_goes_out(store):
    add_commit(store.mirror, "feat", {"key": b"secret"}, start=tip(store.mirror, "main"))
    work = store.mirror.parent / "work"
    git("clone", "-q", "-b", "feat", store.mirror, work)
    git("-C", work, "rm", "-q", "key")
    git("-C", work, "commit", "-q", "-m", "gone")
    git("-C", work, "push", "-q", "origin", "feat")
    commits = await found(store, tip(store.mirror, "feat"))
    assert [file.path for file in await commits.files()] == ["key"]


async def test_what_a_merge_makes_goes_out_too(store):
    base = tip(store.mirror, "main")
    add_commit(store.mirror, "feat", {"a": b"1"}, start=base)
    work = store.mirror.parent / "work"
    git("clone", "-q", "-b", "feat", store.mirror, work)
    git("-C", work, "checkout", "-q", "-b", "side", base)
    (work / "b").write_text("2")
    git("-C", work, "add", "b")
    git("-C", work, "commit", "-q", "-m", "side")
    git("-C", work, "checkout", "-q", "feat")
    git("-C", work, "merge", "-q", "--no-commit", "--no-ff", "side")
    (work / "evil").write_text("only in the merge")
    git("-C", work, "add", "evil")
    git("-C", work, "commit", "-q", "-m", "merge")
    git("-C", work, "push", "-q", "origin", "feat")
    merge = tip(store.mirror, "feat")
    commits = await found(store, merge)
    assert len(commits) == 3
    files = {file.path: file for file in await commits.files()}
    assert set(files) == {"a", "b", "evil"}
    assert await commits.commit_with(files["evil"]) == merge


async def test_nothing_new_is_nothing(store):
    commits = await found(store, tip(store.mirror, "main"))
    assert (len(commits), await commits.files()) == (0, ())
    assert [pair async for pair in commits.contents([])] == []


async def test_contents_come_in_batches(store, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BYTES", 10)
    wanted = {f"f{number}": bytes([65 + number]) * (number + 4) + b"\n" for number in range(5)}
    add_commit(store.mirror, "feat", wanted, start=tip(store.mirror, "main"))
    commits = await found(store, tip(store.mirror, "feat"))
    assert {file.path: data async for file, data in commits.contents(await commits.files())} == wanted


async def test_a_commit_that_is_not_here_is_an_error(store):
    with pytest.raises(GitError, match="is not in"):
        await found(store, "f" * 40)
