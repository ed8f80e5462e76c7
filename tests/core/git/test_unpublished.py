"""What the remote lacks is listed, kind by kind, and nothing else. Time budget: 30 s."""

from __future__ import annotations

import pytest

from gitmachine.outcomes import KeptKind
from support.repos import git, make_remote


@pytest.fixture
async def one(tmp_path, bench):
    made = await bench(make_remote(tmp_path / "r.git"))
    await made.begin()
    return made


async def listed(one, branch="feat"):
    await one.collect()
    found = await one.transport.store.unpublished(one.transport.remote_state, branch)
    return {(entry.kind, entry.name): entry for entry in found}


async def test_an_untouched_clone_holds_no_work(one):
    await one.sh("git branch again main 2>/dev/null || git branch again HEAD; git tag light HEAD")
    assert await listed(one) == {}


async def test_each_kind_of_work_is_listed(one):
    await one.commit("one.txt")
    await one.sh(
        "git branch side && git checkout -q side && git commit -q --allow-empty -m side && git checkout -q feat"
        " && git tag -a -m note note origin/main && git tag light side"
        " && echo dirty > s && git add s && git stash -q && git update-ref refs/gitmachine/keep/stash/0 refs/stash"
        " && git worktree add -q --detach ../wt && cd ../wt && git commit -q --allow-empty -m wt"
        " && git update-ref refs/gitmachine/keep/worktree/wt HEAD"
    )
    tree = await one.sh("echo new > n && git add n && git write-tree && git rm -q -f n")
    await one.sh(f"git update-ref refs/gitmachine/snapshot/1 $(git commit-tree -p HEAD -m snap {tree.splitlines()[0]})")
    found = await listed(one)
    assert set(found) == {
        (KeptKind.BRANCH, "feat"),
        (KeptKind.BRANCH, "side"),
        (KeptKind.TAG, "note"),
        (KeptKind.TAG, "light"),
        (KeptKind.STASH, "stash@{0}"),
        (KeptKind.WORKTREE, "wt"),
        (KeptKind.CHANGES, "refs/gitmachine/snapshot/1"),
    } | {key for key in found if key[0] is KeptKind.STASH}
    assert found[KeptKind.BRANCH, "feat"].commits == 1
    assert found[KeptKind.BRANCH, "side"].commits == 2
    assert found[KeptKind.TAG, "note"].commits == 0
    refs = await one.transport.store.refs()
    assert all(refs[entry.ref] == entry.sha for entry in found.values())


async def test_the_session_branch_comes_first_and_disappears_once_published(one):
    await one.sh("git branch aaa")
    sha = await one.commit("one.txt")
    await one.sh("git branch -f aaa")
    found = list(await listed(one))
    assert found[0] == (KeptKind.BRANCH, "feat")
    await one.transport.publish(sha, "feat")
    assert await listed(one) == {}


async def test_a_detached_head_is_listed_once(one):
    await one.sh("git checkout -q --detach")
    await one.commit("loose.txt")
    assert [key[0] for key in await listed(one)] == [KeptKind.DETACHED]
    await one.sh("git branch named")
    assert list(await listed(one)) == [(KeptKind.BRANCH, "named")]


async def test_a_snapshot_whose_content_was_committed_later_is_no_work(one):
    tree = await one.sh("echo new > n && git add n && git write-tree")
    await one.sh(f"git update-ref refs/gitmachine/snapshot/1 $(git commit-tree -p HEAD -m snap {tree})")
    assert (KeptKind.CHANGES, "refs/gitmachine/snapshot/1") in await listed(one)
    await one.sh("git commit -q -m saved")
    await one.sh(f"git update-ref refs/gitmachine/snapshot/2 $(git commit-tree -p HEAD -m clean {tree})")
    assert set(await listed(one)) == {(KeptKind.BRANCH, "feat")}


async def test_without_an_answer_of_the_remote_everything_is_listed(one):
    await one.collect()
    found = await one.transport.store.unpublished(None, "feat")
    assert [(entry.kind, entry.name) for entry in found] == [(KeptKind.BRANCH, "feat")]
    assert found[0].commits == int(git("-C", one.transport.store.path, "rev-list", "--count", found[0].ref))
