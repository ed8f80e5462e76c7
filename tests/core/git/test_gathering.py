"""Survey and snapshot: all work in the machine is found, named by refs, and left as it is.

Time budget: 40 s.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gitmachine.errors import GitError
from gitmachine.git.model import FoundRepository
from support.repos import git
from support.workspaces import Lab

KEEP = "refs/gitmachine/keep/"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path).init({"a": "1\n", "dir/b": "2\n", ".gitignore": "*.log\nignored/\n"})


def _submodule(lab: Lab, name: str) -> Path:
    source = lab.home / f"source of {name}"
    git("init", "-q", source)
    (source / "file").write_text("x\n")
    git("-C", source, "add", "file")
    git("-C", source, "commit", "-qm", "one")
    lab.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, name)
    lab.git("commit", "-qm", f"submodule {name}")
    return lab.path / name


async def test_a_clean_repository_is_its_head_and_its_refs(lab: Lab):
    survey = await lab.workspace.survey()
    assert survey.head == lab.git("rev-parse", "HEAD")
    assert survey.branch == "main"
    assert survey.tree == lab.tree()
    assert survey.refs == {"refs/heads/main": survey.head}
    assert survey.repositories == (FoundRepository(path="", kind="main"),)
    assert (survey.nested_refs, survey.ignored, survey.in_progress, survey.broken) == ({}, 0, None, ())


async def test_an_empty_repository_can_be_surveyed_and_saved(tmp_path: Path):
    lab = Lab(tmp_path).init()
    survey = await lab.workspace.survey()
    assert (survey.head, survey.branch, survey.refs) == (None, "main", {})
    snapshot = await lab.workspace.snapshot("empty")
    assert (snapshot.head, snapshot.dirty) == (None, False)
    lab.write({"new": "x"})
    survey = await lab.workspace.survey()
    assert lab.git("ls-tree", "--name-only", survey.refs[KEEP + "changes"]) == "new"
    snapshot = await lab.workspace.snapshot("full")
    assert lab.git("rev-list", "--parents", "-1", snapshot.sha) == snapshot.sha
    assert await lab.workspace.head() is None


async def test_uncommitted_content_becomes_a_commit_beside_the_branches(lab: Lab):
    lab.write({"a": "changed\n", "new": "x\n", "ignored/x": "x", "ignored/y": "x", "z.log": "x"})
    (lab.path / "dir/b").unlink()
    before = lab.index()
    survey = await lab.workspace.survey()
    kept = survey.refs[KEEP + "changes"]
    assert lab.tree(kept) == survey.tree != lab.tree()
    assert lab.git("rev-parse", f"{kept}^") == survey.head
    assert lab.git("ls-tree", "-r", "--name-only", kept) == ".gitignore\na\nnew"
    assert survey.ignored == 2
    assert lab.index() == before
    assert lab.git("stash", "list") == ""


async def test_two_surveys_of_the_same_work_are_equal_and_a_change_shows(lab: Lab):
    lab.write({"new": "x\n"})
    inner = lab.nested("nested", {"x": "y"})
    lab.nested("nested/deep", {"x": "y"})
    (inner / "dirt").write_text("1")
    first = await lab.workspace.survey()
    assert await lab.workspace.survey() == first
    (inner / "dirt").write_text("2")
    second = await lab.workspace.survey()
    assert second != first
    assert second.tree == first.tree
    (inner / "dirt").unlink()
    (lab.path / "new").unlink()
    third = await lab.workspace.survey()
    assert KEEP + "changes" not in {**third.refs, **third.nested_refs["nested"]}
    assert lab.git("for-each-ref", "refs/gitmachine") == ""


async def test_every_stash_entry_gets_a_ref(lab: Lab):
    for number in range(3):
        lab.write({"a": f"stash {number}\n", f"untracked{number}": "x"})
        lab.git("stash", "-u")
    survey = await lab.workspace.survey()
    entries = lab.git("rev-list", "-g", "refs/stash").split()
    assert [survey.refs[f"{KEEP}stash/{k}"] for k in range(3)] == entries
    lab.git("stash", "drop")
    survey = await lab.workspace.survey()
    assert [ref for ref in survey.refs if "stash/" in ref] == [KEEP + "stash/0", KEEP + "stash/1"]
    assert [survey.refs[f"{KEEP}stash/{k}"] for k in range(2)] == entries[1:]


async def test_a_detached_head_gets_a_ref(lab: Lab):
    lab.git("checkout", "-q", "--detach")
    lab.git("commit", "-q", "--allow-empty", "-m", "detached")
    survey = await lab.workspace.survey()
    assert survey.branch is None
    assert survey.refs[KEEP + "head"] == survey.head == lab.git("rev-parse", "HEAD")
    lab.git("checkout", "-q", "main")
    assert KEEP + "head" not in (await lab.workspace.survey()).refs


async def test_all_branches_and_tags_are_listed(lab: Lab):
    lab.git("branch", "other")
    lab.git("tag", "-a", "v1", "-m", "v1")
    lab.git("update-ref", "refs/custom/x", "HEAD")
    refs = (await lab.workspace.survey()).refs
    assert set(refs) == {"refs/heads/main", "refs/heads/other", "refs/tags/v1", "refs/custom/x"}
    assert refs["refs/tags/v1"] == lab.git("rev-parse", "v1")


async def test_linked_worktrees_are_part_of_it(lab: Lab, tmp_path: Path):
    outside, inside, gone = tmp_path / "out\nside", lab.path / "in side", tmp_path / "gone"
    lab.git("worktree", "add", "-q", "--detach", outside)
    lab.git("worktree", "add", "-q", "-b", "inner", inside)
    lab.git("worktree", "add", "-q", "--detach", gone)
    git("-C", gone, "commit", "-q", "--allow-empty", "-m", "only here")
    only = git("-C", gone, "rev-parse", "HEAD")
    shutil.rmtree(gone)
    (outside / "dirt").write_text("x")
    (inside / "a").write_text("changed")
    inner = lab.nested("nested", {"x": "y"}, top=outside)
    survey = await lab.workspace.survey()
    kept = {ref.removeprefix(KEEP): sha for ref, sha in survey.refs.items() if ref.startswith(KEEP)}
    assert only in kept.values()
    changes = [sha for ref, sha in kept.items() if ref.endswith("/changes")]
    assert sorted(lab.git("diff", "--name-only", "HEAD", sha) for sha in changes) == ["a", "dirt"]
    assert sum(ref.endswith("/head") for ref in kept) == 2
    # The worktree inside is no nested repository; the one nested in the worktree outside is found.
    assert [(one.path, one.kind) for one in survey.repositories] == [("", "main"), (str(inner), "nested")]
    assert survey.tree == lab.tree()
    assert await lab.workspace.survey() == survey
    snapshot = await lab.workspace.snapshot("all")
    assert len(snapshot.refs) == 3


async def test_nested_repositories_are_found_at_any_depth(lab: Lab):
    names = ["nested", "nested/deeper/still", "dir/new\nline", "-dash", "dir/ends\n", os.fsdecode(b"bytes-\xff")]
    for name in names:
        lab.nested(name, {"x": name.encode("utf-8", "surrogateescape")})
    unborn = lab.nested("unborn")
    (unborn / "content").write_text("x")
    survey = await lab.workspace.survey()
    assert {one.path for one in survey.repositories} == {"", *names, "unborn"}
    assert all(one.kind == "nested" for one in survey.repositories[1:])
    for name in names:
        assert survey.nested_refs[name]["refs/heads/main"] == git("-C", lab.path / name, "rev-parse", "HEAD")
    kept = survey.nested_refs["unborn"]
    assert git("-C", unborn, "ls-tree", "--name-only", kept[KEEP + "changes"]) == "content"
    assert survey.tree == lab.tree()


async def test_a_repository_made_in_a_tracked_directory_is_found(lab: Lab):
    inner = lab.nested("dir")
    git("-C", inner, "add", "b")
    git("-C", inner, "commit", "-qm", "inner")
    survey = await lab.workspace.survey()
    assert survey.nested_refs["dir"] == {"refs/heads/main": git("-C", inner, "rev-parse", "HEAD")}
    assert survey.tree == lab.tree()


async def test_repositories_in_ignored_directories_are_ignored_content(lab: Lab):
    lab.nested("ignored/cache", {"x": "y"})
    lab.nested("ignored/cache/deeper", {"x": "y"})
    lab.nested("nested", {".gitignore": "inner-ignored\n"})
    lab.nested("nested/inner-ignored", {"x": "y"})
    lab.nested("nested/inner-ignored/deeper", {"x": "y"})
    survey = await lab.workspace.survey()
    assert [one.path for one in survey.repositories] == ["", "nested"]
    assert survey.ignored == 1


async def test_submodules_are_found_with_their_commits_and_dirt(lab: Lab):
    sub = _submodule(lab, "sub")
    git("-C", sub, "checkout", "-q", "--detach")
    git("-C", sub, "commit", "-q", "--allow-empty", "-m", "in the submodule")
    (sub / "dirt").write_text("x")
    survey = await lab.workspace.survey()
    assert FoundRepository(path="sub", kind="submodule") in survey.repositories
    refs = survey.nested_refs["sub"]
    assert refs[KEEP + "head"] == git("-C", sub, "rev-parse", "HEAD")
    assert git("-C", sub, "ls-tree", "--name-only", refs[KEEP + "changes"]) == "dirt\nfile"
    assert lab.git("rev-parse", f"{survey.tree}:sub") == refs[KEEP + "head"]


async def test_a_submodule_whose_files_are_gone_still_gives_its_commits(lab: Lab):
    sub = _submodule(lab, "removed sub")
    git("-C", sub, "commit", "-q", "--allow-empty", "-m", "only here")
    only = git("-C", sub, "rev-parse", "HEAD")
    git("-C", sub, "checkout", "-q", "--detach")
    git("-C", sub, "commit", "-q", "--allow-empty", "-m", "detached, only here")
    detached = git("-C", sub, "rev-parse", "HEAD")
    lab.git("submodule", "deinit", "-q", "-f", "removed sub")
    survey = await lab.workspace.survey()
    refs = survey.nested_refs[".git/modules/removed sub"]
    assert only in refs.values()
    assert refs[KEEP + "head"] == detached
    assert await lab.workspace.survey() == survey


async def test_heads_of_an_unfinished_operation_are_kept(lab: Lab):
    lab.git("checkout", "-q", "-b", "theirs")
    lab.write({"a": "theirs\n"})
    lab.git("commit", "-qam", "theirs")
    theirs = lab.git("rev-parse", "HEAD")
    lab.git("checkout", "-q", "main")
    lab.git("branch", "-q", "-D", "theirs")
    lab.write({"a": "ours\n"})
    lab.git("commit", "-qam", "ours")
    lab.git("merge", "-q", theirs, check=False)
    survey = await lab.workspace.survey()
    assert survey.in_progress == "merge"
    assert survey.refs[KEEP + "merge-head"] == theirs
    assert "<<<<<<<" in lab.git("show", f"{survey.refs[KEEP + 'changes']}:a")
    lab.git("merge", "--abort")
    lab.write({"dir/b": "dirty\n"})
    lab.git("rebase", "-q", "--autostash", theirs, check=False)
    survey = await lab.workspace.survey()
    assert (survey.in_progress, survey.branch) == ("rebase", None)
    assert lab.git("show", f"{survey.refs[KEEP + 'autostash']}:dir/b") == "dirty"
    assert survey.refs[KEEP + "orig-head"] == lab.git("rev-parse", "main")


async def test_a_nested_repository_that_cannot_be_read_is_named_and_the_others_are_seen(lab: Lab):
    broken = lab.nested("broken", {"x": "y"})
    lab.nested("sound", {"x": "y"})
    for pack in (broken / ".git/objects").iterdir():
        shutil.rmtree(pack)
    survey = await lab.workspace.survey()
    assert survey.broken == ("broken",)
    assert [one.path for one in survey.repositories] == ["", "sound"]


async def test_a_broken_main_repository_is_an_error(lab: Lab):
    for folder in (lab.path / ".git/objects").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(GitError, match="git survey failed"):
        await lab.workspace.survey()


async def test_a_snapshot_holds_everything_and_touches_nothing(lab: Lab):
    lab.write({"a": "staged\n", "new": "x\n"})
    lab.git("add", "a")
    lab.write({"a": "changed again\n"})
    lab.hook("post-index-change", f"touch '{lab.home}/ran'")
    lab.hook("reference-transaction", f"touch '{lab.home}/ran'; exit 1")
    index, head = lab.index(), lab.git("rev-parse", "HEAD")
    snapshot = await lab.workspace.snapshot("# what it was for\n\nand more")
    assert (snapshot.head, snapshot.number, snapshot.dirty) == (head, 1, True)
    assert snapshot.refs == {snapshot.ref: snapshot.sha}
    assert lab.git("rev-parse", snapshot.ref) == snapshot.sha
    assert lab.git("rev-parse", f"{snapshot.sha}^") == head
    assert lab.git("log", "-1", "--format=%B", snapshot.sha) == "# what it was for\n\nand more"
    assert lab.git("show", f"{snapshot.sha}:a") == "changed again"
    assert lab.index() == index
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert lab.git("rev-parse", "HEAD") == head
    assert not (lab.home / "ran").exists()


async def test_snapshots_are_numbered_and_none_replaces_another(lab: Lab):
    lab.git("update-ref", "refs/gitmachine/snapshot/junk", "HEAD")
    first = await lab.workspace.snapshot("one")
    assert not first.dirty
    lab.write({"a": "x"})
    second = await lab.workspace.snapshot("two")
    assert (first.number, second.number) == (1, 2)
    lab.git("update-ref", "refs/gitmachine/snapshot/10", "HEAD")
    assert (await lab.workspace.snapshot("three")).number == 11
    assert (await lab.workspace.survey()).refs[second.ref] == second.sha


async def test_large_untracked_files_are_left_out_and_named(lab: Lab):
    large = {"large": b"x" * 2000, "dir/-dash\n*": b"y" * 2000, "exact": b"z" * 1000, "a": b"tracked" * 1000}
    lab.write({**large, "small": "x", "ignored/large": b"x" * 2000})
    (lab.path / "dir/b").unlink()
    nested = lab.nested("nested", {"x": "y"})
    (nested / "large").write_bytes(b"x" * 2000)
    (nested / "small").write_text("x")
    snapshot = await lab.workspace.snapshot("capped", max_untracked_bytes=1000)
    assert snapshot.skipped == ("dir/-dash\n*", "large", "nested/large")
    assert lab.git("ls-tree", "-r", "-z", "--name-only", snapshot.sha).split("\0")[:-1] == [
        ".gitignore",
        "a",
        "exact",
        "small",
    ]
    (inner,) = snapshot.nested_refs["nested"].values()
    assert git("-C", nested, "ls-tree", "--name-only", inner) == "small\nx"
    blob = lab.git("hash-object", "large")
    assert blob not in lab.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")


async def test_only_what_is_dirty_gets_a_nested_snapshot(lab: Lab):
    lab.nested("clean", {"x": "y"})
    dirty = lab.nested("dirty", {"x": "y"})
    (dirty / "new").write_text("x")
    snapshot = await lab.workspace.snapshot("all")
    assert [one.path for one in snapshot.repositories] == ["", "dirty"]
    assert not snapshot.dirty
    ((ref, sha),) = snapshot.nested_refs["dirty"].items()
    assert ref == "refs/gitmachine/snapshot/1"
    assert git("-C", dirty, "rev-parse", ref) == sha


async def test_a_snapshot_during_a_rebase_keeps_it_going(lab: Lab):
    lab.git("checkout", "-q", "-b", "theirs")
    lab.write({"a": "theirs\n"})
    lab.git("commit", "-qam", "theirs")
    lab.git("checkout", "-q", "main")
    lab.write({"a": "ours\n"})
    lab.git("commit", "-qam", "ours")
    lab.git("rebase", "-q", "theirs", check=False)
    snapshot = await lab.workspace.snapshot("in between")
    assert snapshot.in_progress == "rebase"
    lab.git("checkout", "-q", "--theirs", "a")
    lab.git("add", "a")
    lab.git("-c", "core.editor=true", "rebase", "--continue")
    assert lab.git("show", "main:a") == "ours"
