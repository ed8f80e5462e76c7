"""Pulling what the remote has, and going back to a snapshot.

Time budget: 40 s.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitmachine.errors import GitError, PullConflictError, PullDivergedError
from support.repos import git
from support.workspaces import IDENTITY, Lab

UPSTREAM = "refs/remotes/origin/main"
POLICIES = ["ff", "rebase", "merge"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path).init({"a": "1\n", "b": "2\n", "c": "3\n", "dir/d": "4\n", ".gitignore": "*.log\n"})


def _theirs(lab: Lab, files: dict[str, bytes | str], *, gone: tuple[str, ...] = ()) -> str:
    """Commit something that only the remote has."""
    here = lab.git("rev-parse", "HEAD")
    lab.git("reset", "-q", "--hard", UPSTREAM if lab.git("for-each-ref", UPSTREAM) else here)
    for name in gone:
        (lab.path / name).unlink()
    lab.write(files)
    lab.git("add", "-A")
    lab.git("commit", "-q", "-m", f"theirs {sorted(files)}")
    theirs = lab.git("rev-parse", "HEAD")
    lab.git("update-ref", UPSTREAM, theirs)
    lab.git("reset", "-q", "--hard", here)
    return theirs


def _ours(lab: Lab, files: dict[str, bytes | str]) -> str:
    lab.write(files)
    lab.git("add", "-A")
    lab.git("commit", "-q", "-m", f"ours {sorted(files)}")
    return lab.git("rev-parse", "HEAD")


def _worktree(lab: Lab) -> dict[str, object]:
    """Every file outside .git, and HEAD, branch and index."""
    found: dict[str, object] = {"HEAD": lab.git("rev-parse", "HEAD"), "index": lab.index()}
    found["branch"] = lab.git("symbolic-ref", "-q", "HEAD", check=False)
    for folder, folders, files in os.walk(lab.path):
        if ".git" in folders:
            folders.remove(".git")
        for name in files:
            file = Path(folder, name)
            found[str(file)] = file.readlink() if file.is_symlink() else (file.read_bytes(), file.stat().st_mode)
    return found


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_branch_that_is_only_behind_is_fast_forwarded(lab: Lab, policy: str):
    old = lab.git("rev-parse", "HEAD")
    theirs = _theirs(lab, {"a": "theirs\n", "new/file": "x"}, gone=("b",))
    assert await lab.workspace.divergence(UPSTREAM) == (0, 1)
    assert await lab.workspace.integrate(UPSTREAM, policy) == (old, theirs)
    assert lab.git("rev-parse", "main") == theirs
    assert lab.git("status", "--porcelain") == ""
    assert (lab.path / "new/file").read_text() == "x"
    assert not (lab.path / "b").exists()
    assert await lab.workspace.integrate(UPSTREAM, policy) == (theirs, theirs)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_branch_that_is_only_ahead_stays(lab: Lab, policy: str):
    lab.git("update-ref", UPSTREAM, "HEAD")
    ours = _ours(lab, {"a": "ours\n"})
    assert await lab.workspace.integrate(UPSTREAM, policy) == (ours, ours)
    assert await lab.workspace.divergence(UPSTREAM) == (1, 0)


async def test_a_fast_forward_of_diverged_branches_says_how_they_diverged(lab: Lab):
    _theirs(lab, {"a": "theirs\n"})
    _theirs(lab, {"a": "theirs again\n"})
    _ours(lab, {"b": "ours\n"})
    before = _worktree(lab)
    with pytest.raises(PullDivergedError, match="rebase or merge") as caught:
        await lab.workspace.integrate(UPSTREAM, "ff")
    assert (caught.value.ahead, caught.value.behind) == (1, 2)
    assert _worktree(lab) == before


async def test_a_merge_has_both_parents_and_the_sessions_identity(lab: Lab):
    theirs = _theirs(lab, {"a": "theirs\n"})
    ours = _ours(lab, {"b": "ours\n"})
    old, new = await lab.workspace.integrate(UPSTREAM, "merge")
    assert old == ours
    assert lab.git("log", "-1", "--format=%P|%an|%s", new) == (
        f"{ours} {theirs}|{IDENTITY.name}|Merge remote-tracking branch 'origin/main'"
    )
    assert (lab.path / "a").read_text() + (lab.path / "b").read_text() == "theirs\nours\n"
    assert lab.git("status", "--porcelain") == ""


async def test_a_rebase_puts_our_commits_on_top(lab: Lab):
    theirs = _theirs(lab, {"a": "theirs\n"})
    _ours(lab, {"b": "ours\n"})
    _ours(lab, {"c": "ours\n", "--amend": "x"})
    _old, new = await lab.workspace.integrate(UPSTREAM, "rebase")
    assert lab.git("log", "--format=%s", f"{theirs}..{new}") == "ours ['--amend', 'c']\nours ['b']"
    assert lab.git("log", "-1", "--format=%an|%cn") == f"{git('config', 'user.name')}|{IDENTITY.name}"
    assert lab.git("status", "--porcelain") == ""
    assert (lab.path / "--amend").exists()


async def test_a_rebase_keeps_merges(lab: Lab):
    _theirs(lab, {"a": "theirs\n"})
    lab.git("checkout", "-q", "-b", "side")
    _ours(lab, {"b": "side\n"})
    lab.git("checkout", "-q", "main")
    _ours(lab, {"c": "ours\n"})
    lab.git("merge", "-q", "--no-edit", "side")
    _old, new = await lab.workspace.integrate(UPSTREAM, "rebase")
    assert len(lab.git("log", "-1", "--format=%P", new).split()) == 2
    assert [(lab.path / name).read_text() for name in "abc"] == ["theirs\n", "side\n", "ours\n"]
    assert lab.git("rev-parse", "main") == new


@pytest.mark.parametrize("policy", ["rebase", "merge"])
async def test_a_conflict_names_the_files_and_changes_nothing(lab: Lab, policy: str):
    _theirs(lab, {"a": "theirs\n", "new\nline": "theirs"}, gone=("b",))
    _ours(lab, {"a": "ours\n", "b": "ours\n", "new\nline": "ours"})
    lab.write({"c": "staged\n"})
    lab.git("add", "c")
    lab.write({"c": "and dirty\n", "untracked": "x"})
    before = _worktree(lab)
    with pytest.raises(PullConflictError, match="nothing was changed") as caught:
        await lab.workspace.integrate(UPSTREAM, policy)
    assert caught.value.files == ("a", "b", "new\nline")
    assert _worktree(lab) == before
    assert lab.git("worktree", "list").count("\n") == 0
    assert not [entry for entry in (lab.path / ".git").iterdir() if entry.name.startswith(("MERGE", "rebase"))]
    assert (await lab.workspace.changes()).in_progress is None


@pytest.mark.parametrize("policy", POLICIES)
async def test_uncommitted_changes_elsewhere_survive(lab: Lab, policy: str):
    _theirs(lab, {"a": "theirs\n"})
    if policy != "ff":
        _ours(lab, {"b": "ours\n"})
    lab.write({"c": "staged\n", "dir/d": "dirty\n", "untracked": "x"})
    lab.git("add", "c")
    status = lab.git("status", "--porcelain")
    await lab.workspace.integrate(UPSTREAM, policy)
    assert lab.git("status", "--porcelain") == status
    assert (lab.path / "a").read_text() == "theirs\n"
    assert (lab.path / "dir/d").read_text() == "dirty\n"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["dirty", "staged", "untracked", "ignored", "in the way of a directory"])
async def test_uncommitted_changes_in_the_way_are_named_and_kept(lab: Lab, policy: str, kind: str):
    names = {"dirty": "a", "staged": "a", "untracked": "new", "ignored": "x.log", "in the way of a directory": "way"}
    name = names[kind]
    changed = "way/file" if kind == "in the way of a directory" else name
    lab.write({changed: "theirs\n"})
    lab.git("add", "-f", changed)
    lab.git("commit", "-qm", "theirs")
    lab.git("update-ref", UPSTREAM, "HEAD")
    lab.git("reset", "-q", "--hard", "HEAD~1")
    if policy != "ff":
        _ours(lab, {"b": "ours\n"})
    lab.write({name: "mine\n"})
    if kind == "staged":
        lab.git("add", name)
    before = _worktree(lab)
    with pytest.raises(PullConflictError, match="uncommitted") as caught:
        await lab.workspace.integrate(UPSTREAM, policy)
    assert _worktree(lab) == before
    assert caught.value.files == (name,)


async def test_files_that_only_look_changed_are_no_obstacle(lab: Lab):
    theirs = _theirs(lab, {"a": "theirs\n"})
    os.utime(lab.path / "a", (1, 1))
    assert (await lab.workspace.integrate(UPSTREAM, "ff"))[1] == theirs


async def test_an_unborn_branch_takes_what_the_remote_has(tmp_path: Path):
    lab = Lab(tmp_path).init({"a": "1\n"})
    first = lab.git("rev-parse", "HEAD")
    lab.git("update-ref", UPSTREAM, first)
    lab.git("update-ref", "-d", "HEAD")
    lab.git("rm", "-q", "-r", "--cached", ".")
    with pytest.raises(PullConflictError):
        await lab.workspace.integrate(UPSTREAM, "ff")
    (lab.path / "a").unlink()
    lab.write({"mine": "x"})
    lab.git("add", "mine")
    assert await lab.workspace.divergence(UPSTREAM) == (0, 1)
    assert await lab.workspace.integrate(UPSTREAM, "ff") == (None, first)
    assert lab.git("status", "--porcelain") == "A  mine"


async def test_an_operation_in_progress_stops_a_pull(lab: Lab):
    _theirs(lab, {"a": "theirs\n"})
    _ours(lab, {"a": "ours\n"})
    lab.git("merge", "-q", UPSTREAM, check=False)
    before = _worktree(lab)
    with pytest.raises(GitError, match="merge"):
        await lab.workspace.integrate(UPSTREAM, "merge")
    assert _worktree(lab) == before


async def test_a_revision_that_is_not_there_is_named(lab: Lab):
    for revision in ("refs/remotes/origin/none", "--help", "", "a..b"):
        with pytest.raises(GitError, match="no commit"):
            await lab.workspace.integrate(revision, "ff")
        with pytest.raises(GitError, match="no commit"):
            await lab.workspace.divergence(revision)


@pytest.mark.parametrize("policy", POLICIES)
async def test_neither_hooks_nor_configuration_have_a_say(lab: Lab, policy: str):
    _theirs(lab, {"a": "theirs\n"})
    if policy != "ff":
        _ours(lab, {"b": "ours\n"})
    for hook in ("pre-merge-commit", "post-merge", "pre-rebase", "post-rewrite", "post-checkout", "commit-msg"):
        lab.hook(hook, f"touch '{lab.home}/ran'; exit 1")
    settings = {
        "merge.ff": "only",
        "merge.verifySignatures": "true",
        "commit.gpgSign": "true",
        "gpg.program": "false",
        "pull.rebase": "interactive",
        "rebase.autoStash": "true",
        "rebase.updateRefs": "true",
        "core.editor": "false",
        "sequence.editor": "false",
    }
    for name, value in settings.items():
        lab.git("config", name, value)
    lab.git("branch", "bystander")
    bystander = lab.git("rev-parse", "bystander")
    _old, new = await lab.workspace.integrate(UPSTREAM, policy)
    assert lab.git("rev-parse", "HEAD") == new
    assert lab.git("rev-parse", "bystander") == bystander
    assert not (lab.home / "ran").exists()


async def test_unrelated_histories_are_an_error_that_says_so(lab: Lab):
    tree = lab.git("rev-parse", "HEAD^{tree}")
    lab.git("update-ref", UPSTREAM, lab.git("commit-tree", "-m", "other root", tree))
    before = _worktree(lab)
    with pytest.raises(GitError, match="unrelated"):
        await lab.workspace.integrate(UPSTREAM, "merge")
    assert _worktree(lab) == before


async def test_restore_brings_files_and_branch_back(lab: Lab):
    lab.write({"a": "dirty\n", "untracked/x": "x", "x.log": "ignored"})
    (lab.path / "b").unlink()
    (lab.path / "link").symlink_to("a")
    (lab.path / "c").chmod(0o755)
    nested = lab.nested("nested", {"x": "y"})
    head = lab.git("rev-parse", "HEAD")
    snapshot = await lab.workspace.snapshot("good")
    assert await lab.workspace.commit("later") is not None
    (lab.path / "untracked/x").unlink()
    (lab.path / "untracked").rmdir()
    lab.write({"a": "worse\n", "b": "is back", "later/file": "x", "untracked": "now a file"})
    saved = await lab.workspace.snapshot("before the rollback")
    await lab.workspace.restore(snapshot.sha)
    assert (await lab.workspace.survey()).tree == snapshot.tree
    assert lab.git("rev-parse", "main") == await lab.workspace.head() == head
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert (lab.path / "x.log").read_text() == "ignored"
    assert (nested / "x").read_text() == "y"
    assert not (lab.path / "later").exists()
    assert lab.git("status", "--porcelain").splitlines() == [
        " M a",
        " D b",
        " M c",
        "?? link",
        "?? nested/",
        "?? untracked/",
    ]
    await lab.workspace.restore(saved.sha)
    assert (await lab.workspace.survey()).tree == saved.tree
    assert await lab.workspace.head() == saved.head


async def test_restore_goes_back_to_an_empty_repository(tmp_path: Path):
    lab = Lab(tmp_path).init()
    lab.write({"draft": "x"})
    snapshot = await lab.workspace.snapshot("before any commit")
    await lab.workspace.commit("first")
    await lab.workspace.restore(snapshot.sha)
    assert await lab.workspace.head() is None
    assert lab.git("status", "--porcelain") == "?? draft"
    await lab.workspace.restore(snapshot.sha)
    assert (await lab.workspace.survey()).tree == snapshot.tree


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick"])
async def test_restore_ends_an_operation_and_returns_to_the_branch(lab: Lab, operation: str):
    theirs = _theirs(lab, {"a": "theirs\n"})
    ours = _ours(lab, {"a": "ours\n"})
    snapshot = await lab.workspace.snapshot("good")
    lab.git(operation, theirs, check=False)
    assert (await lab.workspace.changes()).in_progress == operation
    await lab.workspace.restore(snapshot.sha, branch="main")
    assert (await lab.workspace.changes()).in_progress is None
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert lab.git("rev-parse", "HEAD") == ours
    assert lab.git("status", "--porcelain") == ""
    assert lab.git("ls-files", "-u") == ""


async def test_restore_leaves_large_untracked_files_that_no_snapshot_holds(lab: Lab):
    lab.write({"large": b"x" * 5000})
    snapshot = await lab.workspace.snapshot("capped", max_untracked_bytes=1000)
    lab.write({"small": "x"})
    await lab.workspace.restore(snapshot.sha, max_untracked_bytes=1000)
    assert (lab.path / "large").exists()
    assert not (lab.path / "small").exists()


async def test_restore_does_not_overwrite_a_large_file_that_no_snapshot_holds(lab: Lab):
    lab.write({"grows": "small\n"})
    snapshot = await lab.workspace.snapshot("small", max_untracked_bytes=1000)
    lab.write({"grows": b"x" * 5000})
    before = _worktree(lab)
    with pytest.raises(GitError, match="overwrite 'grows'"):
        await lab.workspace.restore(snapshot.sha, max_untracked_bytes=1000)
    assert _worktree(lab) == before


@pytest.mark.parametrize("moved_here", [False, True])
async def test_a_clean_submodule_follows_a_pull_and_one_with_work_stays(lab: Lab, moved_here: bool):
    source = lab.home / "source"
    git("init", "-q", source)
    git("-C", source, "commit", "-q", "--allow-empty", "-m", "one")
    lab.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "new sub")
    lab.git("commit", "-qm", "submodule")
    sub = lab.path / "new sub"
    one = git("-C", sub, "rev-parse", "HEAD")
    git("-C", sub, "commit", "-q", "--allow-empty", "-m", "two")
    two = git("-C", sub, "rev-parse", "HEAD")
    lab.git("commit", "-qam", "move the submodule")
    lab.git("update-ref", UPSTREAM, "HEAD")
    lab.git("reset", "-q", "--hard", "HEAD~1")
    git("-C", sub, "reset", "-q", "--hard", one)
    if moved_here:
        git("-C", sub, "commit", "-q", "--allow-empty", "-m", "work")
    mine = git("-C", sub, "rev-parse", "HEAD")
    await lab.workspace.integrate(UPSTREAM, "ff")
    assert git("-C", sub, "rev-parse", "HEAD") == (mine if moved_here else two)
    assert ((await lab.workspace.changes()).files == ()) is not moved_here


async def test_restore_of_something_unknown_changes_nothing(lab: Lab):
    lab.write({"a": "dirty"})
    before = _worktree(lab)
    with pytest.raises(GitError, match="no commit"):
        await lab.workspace.restore("1" * 40)
    assert _worktree(lab) == before
