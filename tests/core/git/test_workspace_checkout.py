"""Putting the session's branch in place.

Time budget: 20 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gitmachine.errors import CheckoutError
from support.repos import git
from support.workspaces import IDENTITY, Lab


def _populated(
    root: Path, files: Mapping[str, bytes | str], *, env: Mapping[str, str] | None = None
) -> tuple[Lab, str]:
    """Make a repository as a transport leaves it (objects, remote refs, nothing else); return it and the commit."""
    (root / "source").mkdir()
    source = Lab(root / "source").init(files)
    lab = Lab(root, env=env).init()
    lab.git("remote", "add", "origin", source.path)
    lab.git("fetch", "-q", "origin")
    return lab, lab.git("rev-parse", "refs/remotes/origin/main")


FILES = {"a": "1\n", "dir/b": "2\n", "feature": "a file named like the branch\n"}


async def test_a_new_branch_starts_from_the_commit(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    await lab.workspace.checkout("gitmachine/x1", start, False)
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/gitmachine/x1"
    assert await lab.workspace.head() == start
    assert (lab.path / "dir/b").read_text() == "2\n"
    assert lab.git("status", "--porcelain") == ""
    assert lab.git("config", "--get-regexp", "^branch", check=False) == ""
    assert lab.git("config", "user.name") == IDENTITY.name
    assert lab.git("config", "user.email") == IDENTITY.email


async def test_a_branch_of_the_remote_is_tracked(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    await lab.workspace.checkout("main", start, True)
    assert lab.git("rev-parse", "--abbrev-ref", "main@{upstream}") == "origin/main"
    assert await lab.workspace.divergence("refs/remotes/origin/main") == (0, 0)


@pytest.mark.parametrize(
    "branch", ["feature", "dir", "a", "origin/main", "x" * 200, "grüße", "a.b", "1234567", "--", "-n"]
)
async def test_a_branch_named_like_something_else_is_a_branch(tmp_path: Path, branch: str):
    lab, start = _populated(tmp_path, FILES)
    if branch.startswith("-"):
        with pytest.raises(CheckoutError):  # names.py refuses these before anything starts
            await lab.workspace.checkout(branch, "0" * 40, False)
        return
    await lab.workspace.checkout(branch, start, True)
    assert lab.git("symbolic-ref", "HEAD") == f"refs/heads/{branch}"
    assert lab.git("status", "--porcelain") == ""
    assert lab.git("config", f"branch.{branch}.merge") == f"refs/heads/{branch}"


async def test_an_empty_repository_has_an_unborn_branch(tmp_path: Path):
    lab = Lab(tmp_path).init()
    await lab.workspace.checkout("session", None, False)
    assert await lab.workspace.head() is None
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/session"
    lab.write({"first": "x"})
    assert await lab.workspace.commit("first") is not None
    assert lab.git("rev-parse", "session") == await lab.workspace.head()


async def test_hooks_do_not_run(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        lab.hook(hook, f"touch '{lab.home}/ran'; exit 1")
    await lab.workspace.checkout("session", start, True)
    assert not (lab.home / "ran").exists()


async def test_an_identity_that_looks_like_options_is_set_exactly(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    from gitmachine.git.model import GitIdentity
    from gitmachine.git.workspace import Workspace

    identity = GitIdentity("--unset-all $(touch pwned) 'x' \"y\" ; # ä", "--global")
    workspace = Workspace(lab.runner, str(lab.path), identity)
    await workspace.checkout("session", start, False)
    assert lab.git("config", "--local", "user.name") == identity.name
    lab.write({"a": "x"})
    assert await workspace.commit("x") is not None
    assert lab.git("log", "-1", "--format=%an|%ae|%cn") == f"{identity.name}|{identity.email}|{identity.name}"


async def test_files_that_are_there_already_are_not_overwritten(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    lab.write({"a": "precious"})
    with pytest.raises(CheckoutError, match="overwritten"):
        await lab.workspace.checkout("session", start, False)
    assert (lab.path / "a").read_text() == "precious"


async def test_other_files_that_are_there_already_are_named(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    lab.write({"stray": "x"})
    with pytest.raises(CheckoutError, match="'stray'"):
        await lab.workspace.checkout("session", start, False)


async def test_line_endings_that_the_attributes_want_changed_are_refused_and_listed(tmp_path: Path):
    lab, start = _populated(tmp_path, {"windows.txt": b"1\r\n2\r\n", "fine.txt": "1\n"})
    source = Lab(tmp_path / "source")
    source.write({".gitattributes": "*.txt text\n"})
    source.git("add", ".gitattributes")
    source.git("commit", "-qm", "attributes without renormalising")
    lab.git("fetch", "-q", "origin")
    start = lab.git("rev-parse", "refs/remotes/origin/main")
    with pytest.raises(CheckoutError, match=r"windows\.txt.*renormalize") as caught:
        await lab.workspace.checkout("session", start, False)
    assert "fine.txt" not in str(caught.value)


@pytest.mark.parametrize("attributes", ["* text=auto\n", "*.bin -text\n", "*.txt eol=crlf\n", "*.sh text eol=lf\n"])
async def test_attributes_that_fit_are_no_obstacle(tmp_path: Path, attributes: str):
    files = {".gitattributes": attributes, "a.txt": "1\n2\n", "b.sh": "1\n", "c.bin": b"1\r\n\0", "d": b"1\r\n2\r\n"}
    lab, start = _populated(tmp_path, files)
    await lab.workspace.checkout("session", start, False)
    assert await lab.workspace.commit("nothing") is None


async def test_a_machine_that_converts_line_endings_gets_a_clean_checkout(tmp_path: Path):
    lab, start = _populated(tmp_path, {"lf": "1\n2\n", "crlf": b"1\r\n2\r\n"})
    git("config", "--file", lab.home / ".gitconfig", "core.autocrlf", "true")
    await lab.workspace.checkout("session", start, False)
    assert (lab.path / "lf").read_bytes() == b"1\r\n2\r\n"
    assert await lab.workspace.commit("nothing") is None
    assert await lab.workspace.diff() == ""


async def test_a_filter_that_cannot_run_is_an_error(tmp_path: Path):
    lab, start = _populated(tmp_path, {".gitattributes": "*.big filter=broken\n", "x.big": "pointer\n"})
    lab.git("config", "filter.broken.smudge", "false")
    lab.git("config", "filter.broken.required", "true")
    with pytest.raises(CheckoutError, match="filter"):
        await lab.workspace.checkout("session", start, False)


async def test_a_commit_that_is_not_there_is_an_error(tmp_path: Path):
    lab, _start = _populated(tmp_path, FILES)
    with pytest.raises(CheckoutError):
        await lab.workspace.checkout("session", "1" * 40, False)


async def test_a_branch_that_holds_other_commits_is_not_moved(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    other = lab.git("commit-tree", "-m", "other", f"{start}^{{tree}}")
    lab.git("update-ref", "refs/heads/session", other)
    with pytest.raises(CheckoutError, match="exists already"):
        await lab.workspace.checkout("session", start, False)
    assert lab.git("rev-parse", "session") == other


async def test_a_branch_below_another_branch_is_an_error(tmp_path: Path):
    lab, start = _populated(tmp_path, FILES)
    lab.git("update-ref", "refs/heads/agent", start)
    with pytest.raises(CheckoutError, match="agent"):
        await lab.workspace.checkout("agent/x", start, False)


async def test_submodules_that_are_not_there_leave_it_clean(tmp_path: Path):
    lab, _start = _populated(tmp_path, FILES)
    source = Lab(tmp_path / "source")
    source.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source.path, "sub")
    source.git("commit", "-qm", "submodule")
    lab.git("fetch", "-q", "--no-recurse-submodules", "origin")
    await lab.workspace.checkout("session", lab.git("rev-parse", "refs/remotes/origin/main"), False)
    assert await lab.workspace.commit("nothing") is None
