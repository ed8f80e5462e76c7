"""Differences against HEAD: complete, appliable, and made without touching anything.

Time budget: 25 s.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gitmachine.errors import GitError
from gitmachine.git.model import Change
from support.repos import git
from support.workspaces import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path).init(
        {
            "text": "1\n2\n3\n",
            "no-newline": "end",
            "binary": bytes(range(256)) * 40,
            "tool": "#!/bin/sh\n",
            "gone": "x\n",
            "becomes-link": "file\n",
            "becomes-dir": "file\n",
            "dir/inside": "x\n",
            "crlf": b"1\r\n2\r\n",
            "moved": "line\n" * 50,
            ".gitignore": "*.log\n",
        }
    )


def _everything(lab: Lab) -> None:
    lab.write(
        {
            "text": "1\nchanged\n3\n",
            "no-newline": "other end",
            "binary": bytes(range(255, -1, -1)) * 40,
            "crlf": b"1\r\n2\n3\r\n",
            "new/empty": "",
            "new/binary": os.urandom(5000),
            "new/grüße": "ä\n",
            'new/with "quotes" and\ttab and\nnewline': "x\n",
            "-dash": "x\n",
            ":(exclude)magic": "x\n",
            "*?[a]": "x\n",
            "renamed": "line\n" * 50,
            "ignored.log": "x",
        }
    )
    (lab.path / os.fsdecode(b"new/bytes-\xff\xfe")).write_bytes(b"x\n")
    for name in ("gone", "moved", "becomes-link", "becomes-dir"):
        (lab.path / name).unlink()
    shutil.rmtree(lab.path / "dir")
    lab.write({"becomes-dir/file": "x\n", "dir": "a file now\n"})
    (lab.path / "becomes-link").symlink_to("text")
    (lab.path / "broken-link").symlink_to("no\nwhere")
    (lab.path / "tool").chmod(0o755)
    lab.git("add", "text", "new/empty")
    lab.write({"text": "1\nchanged again\n3\n"})


def _state(lab: Lab) -> dict[str, object]:
    """Everything of .git: each file's content, identity and time.

    Without the times of objects and shared indexes: git renews them whenever it reads one, so that gc spares it.
    """
    found: dict[str, object] = {}
    for folder, _folders, files in os.walk(lab.path / ".git"):
        found[folder] = Path(folder).stat().st_mtime_ns
        for name in files:
            file = Path(folder, name)
            renewed = "objects" in file.parts or name.startswith("sharedindex.")
            found[str(file)] = (file.read_bytes(), file.stat().st_ino, renewed or file.stat().st_mtime_ns)
    return found


async def _applied_tree(lab: Lab, root: Path, *, base: str | None = "HEAD") -> str:
    """Apply the workspace's diff to a fresh clone and return the tree that it gives there."""
    patch = root / "patch"
    patch.write_bytes(await lab.workspace.diff_bytes())
    clone = root / "clone"
    git("clone", "-q", "--no-local", lab.path, clone)
    if patch.stat().st_size:
        git("-C", clone, "apply", "--index", "--whitespace=nowarn", patch)
    git("-C", clone, "diff", "--exit-code")
    return git("-C", clone, "write-tree")


async def test_the_patch_applied_to_a_clone_gives_the_same_tree(lab: Lab, tmp_path: Path):
    _everything(lab)
    tree = await _applied_tree(lab, tmp_path)
    assert tree == (await lab.workspace.survey()).tree
    outcome = await lab.workspace.commit("all of it")
    assert outcome is not None
    assert lab.tree() == tree


async def test_the_patch_does_not_depend_on_the_configuration(lab: Lab, tmp_path: Path):
    _everything(lab)
    plain = await lab.workspace.diff_bytes()
    settings = {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.renames": "copies",
        "diff.context": "0",
        "diff.interHunkContext": "20",
        "diff.suppressBlankEmpty": "true",
        "diff.relative": "true",
        "diff.submodule": "log",
        "diff.algorithm": "minimal",
        "diff.colorMoved": "zebra",
        "diff.external": "false",
        "diff.orderFile": str(lab.path / "text"),
        "diff.wordRegex": ".",
        "diff.ignoreSubmodules": "all",
        "diff.upper.textconv": "tr a-z A-Z <",
        "color.diff": "always",
        "core.pager": "false",
        "core.quotePath": "true",
    }
    (lab.path / ".git/info/attributes").write_text("text diff=upper\n")
    for name, value in settings.items():
        lab.git("config", name, value)
    assert await lab.workspace.diff_bytes() == plain


async def test_nothing_of_the_repository_is_touched(lab: Lab):
    _everything(lab)
    lab.hook("post-index-change", f"touch '{lab.home}/ran'")
    lab.write({"large": os.urandom(3_000_000)})
    lab.nested("nested", {"x": "y"})
    before = _state(lab)
    await lab.workspace.diff()
    await lab.workspace.changes()
    await lab.workspace.head()
    await lab.workspace.log()
    after = _state(lab)
    assert after == before
    assert not (lab.home / "ran").exists()


async def test_changes_are_what_the_diff_holds(lab: Lab):
    _everything(lab)
    changes = await lab.workspace.changes()
    outcome = await lab.workspace.commit("x")
    assert outcome is not None
    assert outcome.changes.files == changes.files
    assert not await lab.workspace.changes()


async def test_changes_that_undo_what_is_staged_are_none(lab: Lab):
    lab.write({"text": "staged\n"})
    lab.git("add", "text")
    lab.write({"text": "1\n2\n3\n"})
    lab.git("rm", "-q", "--cached", "tool")
    changes = await lab.workspace.changes()
    assert changes.files == ()
    assert await lab.workspace.diff() == ""
    lab.write({"tool": "other\n"})
    assert (await lab.workspace.changes()).files == (Change("M", "tool"),)


async def test_an_empty_repository_has_a_diff(tmp_path: Path):
    lab = Lab(tmp_path).init()
    assert await lab.workspace.diff() == ""
    assert not await lab.workspace.changes()
    lab.write({"new": "x\n"})
    assert "+x" in await lab.workspace.diff()
    assert (await lab.workspace.changes()).files == (Change("A", "new"),)


async def test_a_clean_repository_has_none(lab: Lab):
    os.utime(lab.path / "text")
    assert await lab.workspace.diff() == ""


async def test_nested_repositories_are_no_part_of_it(lab: Lab):
    lab.nested("nested", {"x": "y"})
    lab.nested("unborn")
    assert await lab.workspace.diff() == ""
    changes = await lab.workspace.changes()
    assert changes.files == ()
    assert changes.nested == ("nested", "unborn")


async def test_a_diff_during_a_conflict_holds_the_files_as_they_are(lab: Lab, tmp_path: Path):
    lab.write({"text": "theirs\n"})
    lab.git("commit", "-qam", "theirs")
    lab.git("reset", "-q", "--hard", "HEAD~1")
    lab.write({"text": "ours\n"})
    lab.git("commit", "-qam", "ours")
    lab.git("merge", "-q", "HEAD@{2}", check=False)
    before = _state(lab)
    tree = await _applied_tree(lab, tmp_path)
    assert (await lab.workspace.changes()).in_progress == "merge"
    assert _state(lab) == before
    assert "<<<<<<<" in git("-C", tmp_path / "clone", "show", f"{tree}:text")
    assert (await lab.workspace.snapshot("conflict")).tree == tree


async def test_a_patch_above_the_limit_is_an_error_and_never_cut_off(lab: Lab):
    lab.write({"new": "line\n" * 1000})
    with pytest.raises(GitError, match="larger than 1000 bytes"):
        await lab.workspace.diff_bytes(max_bytes=1000)


async def test_a_moved_submodule_is_in_it_and_dirt_inside_is_not(lab: Lab, tmp_path: Path):
    source = tmp_path / "source"
    git("init", "-q", source)
    git("-C", source, "commit", "-q", "--allow-empty", "-m", "one")
    lab.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "sub")
    lab.git("commit", "-qm", "submodule")
    (lab.path / "sub/dirt").write_text("x")
    assert await lab.workspace.diff() == ""
    assert not await lab.workspace.changes()
    git("-C", lab.path / "sub", "commit", "-q", "--allow-empty", "-m", "two")
    assert "Subproject commit" in await lab.workspace.diff()
    assert (await lab.workspace.changes()).files == (Change("M", "sub"),)


async def test_a_split_index_can_be_read_and_stays_split(lab: Lab):
    lab.git("update-index", "--split-index")
    lab.write({"new": "x\n"})
    before = _state(lab)
    assert "+x" in await lab.workspace.diff()
    assert _state(lab) == before


async def test_a_change_that_only_the_time_of_the_index_betrays_is_seen(lab: Lab):
    # Equal size, equal time, as written in the same instant as the index: git compares with the index's own mtime,
    # and a copy of the index with a newer one would hide the change.
    past = 1_600_000_000
    lab.git("config", "core.trustctime", "false")
    lab.write({"text": "before\n"})
    os.utime(lab.path / "text", (past, past))
    lab.git("add", "text")
    lab.write({"text": "behind\n"})
    for file in ("text", ".git/index"):
        os.utime(lab.path / file, (past, past))
    assert "+behind" in await lab.workspace.diff()
    assert lab.git("show", f"{(await lab.workspace.snapshot('racy')).sha}:text") == "behind"
    assert await lab.workspace.commit("racy") is not None
    assert lab.git("show", "HEAD:text") == "behind"
