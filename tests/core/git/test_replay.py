"""Replaying commits in a bare repository: exact, or refused. Time budget: 30 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import PushRejectedError
from gitmachine.git.replay import replay, rewrite_commit
from gitmachine.git.store import SessionRepository
from support.repos import add_commit, git, make_remote, show, tip

RAW = (
    b"tree aaa\nparent bbb\nauthor \xc3\x9c <u@x> 100 +0100\ncommitter C <c@x> 200 -0500\nencoding ISO-8859-1\n"
    b"gpgsig -----BEGIN\n line\n -----END\n\nsubject\n\ntree not a header\n"
)


def test_a_commit_keeps_author_message_and_encoding_and_loses_its_signature():
    assert rewrite_commit(RAW, tree="T", parent="P", committed=300) == (
        b"tree T\nparent P\nauthor \xc3\x9c <u@x> 100 +0100\ncommitter C <c@x> 300 -0500\nencoding ISO-8859-1\n"
        b"\nsubject\n\ntree not a header\n"
    )


@pytest.fixture
async def store(tmp_path, host):
    made = SessionRepository(tmp_path / "s.git", host, None)
    make_remote(tmp_path / "s.git", commits=3)
    return made


async def test_several_commits_are_replayed_in_order(store):
    base = tip(store.path, "main")
    add_commit(store.path, "ours", {"a": b"1\n"}, message="one", start=base)
    ours = add_commit(store.path, "ours", {"b": b"2\n", "README.md": b"# Ours\n"}, message="two")
    theirs = add_commit(store.path, "main", {"c": b"3\n"})
    new = await replay(store, ours, onto=theirs, branch="feat")
    assert git("-C", store.path, "log", "--format=%s", "-3", new).splitlines() == ["two", "one", "another"]
    assert [show(store.path, f"{new}:{name}") for name in ("a", "b", "c", "README.md")] == ["1", "2", "3", "# Ours"]
    assert git("-C", store.path, "log", "-1", "--format=%an <%ae> %at", new) == git(
        "-C", store.path, "log", "-1", "--format=%an <%ae> %at", ours
    )
    assert new in git("-C", store.path, "for-each-ref", "refs/replayed")
    git("-C", store.path, "fsck", "--strict")


async def test_a_change_that_the_other_side_has_too_is_left_out(store):
    base = tip(store.path, "main")
    add_commit(store.path, "ours", {"same": b"1\n"}, start=base)
    ours = add_commit(store.path, "ours", {"mine": b"1\n"}, message="mine")
    add_commit(store.path, "main", {"other": b"x\n"})
    theirs = add_commit(store.path, "main", {"same": b"1\n"})
    new = await replay(store, ours, onto=theirs, branch="feat")
    assert git("-C", store.path, "rev-parse", f"{new}~1") == theirs


async def test_a_conflict_names_the_file(store):
    base = tip(store.path, "main")
    ours = add_commit(store.path, "ours", {"dir with space/ü.txt": b"ours\n"}, start=base)
    theirs = add_commit(store.path, "main", {"dir with space/ü.txt": b"theirs\n"})
    with pytest.raises(PushRejectedError, match=r"conflicts in 'dir with space/ü\.txt'"):
        await replay(store, ours, onto=theirs, branch="feat")


async def test_merges_are_refused_for_their_resolution_would_be_lost(store):
    base = tip(store.path, "main")
    one, two = (add_commit(store.path, name, {name: b"1\n"}, start=base) for name in ("one", "two"))
    tree = git("-C", store.path, "merge-tree", "--write-tree", one, two)
    merge = git("-C", store.path, "commit-tree", "-m", "merge", "-p", one, "-p", two, tree)
    theirs = add_commit(store.path, "main", {"c": b"3\n"})
    with pytest.raises(PushRejectedError, match="is a merge"):
        await replay(store, merge, onto=theirs, branch="feat")
