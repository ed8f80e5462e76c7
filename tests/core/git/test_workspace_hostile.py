"""Thousands of hostile file names, messages, identities and revisions through the workspace.

Time budget: 60 s. Names are tried by the hundred in one repository, so that thousands are cheap.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gitmachine.errors import CheckoutError, ConfigError, GitError
from gitmachine.git.model import GitIdentity
from gitmachine.git.workspace import Workspace
from support.repos import git
from support.workspaces import Lab

FIXED = [
    b"-rf",
    b"--",
    b"--help",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"; touch pwned",
    b"'",
    b'"',
    b"\\",
    b"\\n",
    b"%s%n",
    b"*",
    b"?[a-z]",
    b":(top)x",
    b":!x",
    b"!",
    b"(",
    b"#",
    b"~",
    b"@fail",
    b"@repository",
    b" ",
    b"\n",
    b"a\nb",
    b"\n160000 x",
    b":000000 160000 0 0 A",
    b"\r",
    b"\t",
    b"\x7f\x01\x1b[31m",
    b"\xff\xfe",
    b"\xc3",
    "grüße-日本語".encode(),
    b"HEAD",
    b"x" * 255,
    b"..x",
    b"...",
    b".gitx",
]
# What git itself refuses in a path, on any file system, is no input: these names mean .git somewhere.
_FORBIDDEN = re.compile(
    rb"(?i)^(\.|\.\.|\.git[ .]*(:.*)?|git~\d.*|\.git(modules|attributes|ignore|mailmap)?)$", re.DOTALL
)
_ODD = st.sampled_from([bytes([b]) for b in b"-$`'\"\\*?[]{}()!#~:;&|<>%@ \n\r\t\x01\x1b\x7f\xff\xfe\xc3=,.+^"])
NAMES = (
    st.one_of(
        st.binary(min_size=1, max_size=24),
        st.lists(
            st.one_of(_ODD, st.sampled_from([b"a", b"git", b"HEAD", b"touch pwned"])), min_size=1, max_size=12
        ).map(b"".join),
        st.sampled_from(FIXED),
    )
    .map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"_"))
    .filter(lambda name: not _FORBIDDEN.match(name) and b"git~" not in name.lower() and b".git" not in name.lower())
)
MESSAGES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
# No shrinking: it would repeat whole repositories for minutes; the names are printed as they are.
_SETTINGS = settings(deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])


def _paths(names: list[bytes]) -> list[bytes]:
    """Spread names over files and directories, so that each is tried as both."""
    return [name if k % 3 else name[:200] + b"-dir/" + names[k - 1] for k, name in enumerate(names)]


async def _all_operations(root: Path, names: list[bytes]) -> None:
    lab = Lab(root).init({"kept": "x\n"})
    paths = _paths(names)
    for path in paths:
        file = lab.path / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path)
    texts = {os.fsdecode(path) for path in paths}
    changes = await lab.workspace.changes()
    assert {change.path for change in changes.files} == texts
    patch = await lab.workspace.diff_bytes()
    snapshot = await lab.workspace.snapshot("all")
    outcome = await lab.workspace.commit("all")
    assert outcome is not None
    assert outcome.changes.files == changes.files
    assert lab.tree() == snapshot.tree
    listed = lab.git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")[:-1]
    assert set(listed) == texts | {"kept"}
    clone = root / "clone"
    git("clone", "-q", "--no-checkout", lab.path, clone)
    git("-C", clone, "reset", "-q", "--hard", "HEAD~1")
    git("-C", clone, "apply", "--index", "--whitespace=nowarn", "-", stdin=patch)
    assert git("-C", clone, "write-tree") == snapshot.tree
    await lab.workspace.restore(snapshot.sha)
    assert (await lab.workspace.survey()).tree == snapshot.tree
    assert {change.path for change in (await lab.workspace.changes()).files} == texts
    assert not list(root.rglob("pwned"))


@given(names=st.lists(NAMES, min_size=100, max_size=160, unique=True))
@settings(_SETTINGS, max_examples=15)
def test_files_of_any_name_go_through_every_operation_exactly(names: list[bytes]):
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_all_operations(Path(root), names))


def test_the_names_known_to_be_nasty_go_through_every_operation(tmp_path: Path):
    asyncio.run(_all_operations(tmp_path, list(dict.fromkeys(FIXED))))


async def _nested(root: Path, names: list[bytes]) -> None:
    lab = Lab(root).init({"kept": "x\n"})
    template = lab.nested("template", {"x": "y"})
    sha = git("-C", template, "rev-parse", "HEAD")
    paths = [os.fsdecode(name) for name in names]
    for path in paths:
        git("clone", "-q", "--bare", template, lab.path / path / ".git")
        git("-C", lab.path / path / ".git", "config", "core.bare", "false")
        git("-C", lab.path / path, "reset", "-q", "--hard")
        (lab.path / path / "dirt").write_text("x")
    survey = await lab.workspace.survey()
    assert {one.path for one in survey.repositories} == {"", "template", *paths}
    assert all(survey.nested_refs[path]["refs/heads/main"] == sha for path in paths)
    assert all("refs/gitmachine/keep/changes" in survey.nested_refs[path] for path in paths)
    assert survey.tree == lab.tree()
    assert await lab.workspace.survey() == survey
    assert (await lab.workspace.changes()).nested == tuple(sorted([*paths, "template"]))
    snapshot = await lab.workspace.snapshot("all")
    assert set(snapshot.nested_refs) == set(paths)
    assert await lab.workspace.commit("nothing of it") is None
    assert not list(root.rglob("pwned"))


@given(names=st.lists(NAMES, min_size=6, max_size=6, unique=True))
@settings(_SETTINGS, max_examples=6)
def test_nested_repositories_of_any_name_are_found(names: list[bytes]):
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_nested(Path(root), names))


async def _messages(root: Path, messages: list[str]) -> None:
    lab = Lab(root).init({"kept": "x\n"})
    for number, message in enumerate(messages):
        lab.write({"kept": str(number)})
        auto = bool(number % 2)
        if not auto and not message.strip():
            with pytest.raises(ConfigError):
                await lab.workspace.commit(message)
            continue
        outcome = await lab.workspace.commit(message, auto=auto)
        assert outcome is not None
        expected = message if message.strip(" \t\r\n\0") else "checkpoint"
        stored = lab.git("cat-file", "commit", "HEAD") + "\n"
        assert stored.split("\n\n", 1)[1].rstrip("\n") == expected.rstrip("\n")
    newest = (await lab.workspace.log(1000))[0]
    assert newest.sha == await lab.workspace.head()
    assert not list(root.rglob("pwned"))


@given(messages=st.lists(MESSAGES, min_size=10, max_size=10))
@settings(_SETTINGS, max_examples=8)
def test_any_message_is_committed_exactly(messages: list[str]):
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_messages(Path(root), messages))


HOSTILE = [os.fsdecode(name) for name in FIXED if b"\n" not in name and b"\0" not in name]


async def test_any_identity_that_git_takes_is_kept_exactly(tmp_path: Path):
    lab = Lab(tmp_path).init({"kept": "x\n"})
    start = await lab.workspace.head()
    # Bytes that are not UTF-8 are no name: git reads them as Latin-1.
    for number, text in enumerate(text for text in HOSTILE if text.isascii() or text.isprintable()):
        name = f"a{text}z".replace("<", "").replace(">", "")
        workspace = Workspace(lab.runner, str(lab.path), GitIdentity(name, name))
        await workspace.checkout(f"session-{number}", start, False)
        assert lab.git("config", "--local", "user.name") == name
        lab.write({"kept": str(number)})
        assert await workspace.commit("x", auto=True) is not None
        assert lab.git("cat-file", "commit", "HEAD").split("\nauthor ")[1].startswith(f"{name} <")
    assert not list(tmp_path.rglob("pwned"))


async def test_hostile_revisions_and_branches_are_data(tmp_path: Path):
    lab = Lab(tmp_path).init({"kept": "x\n"})
    start = await lab.workspace.head()
    for text in HOSTILE:
        if text == "HEAD":
            continue
        with pytest.raises(GitError):
            await lab.workspace.divergence(text)
        with pytest.raises(GitError):
            await lab.workspace.integrate(text, "merge")
        with pytest.raises(GitError):
            await lab.workspace.restore(text)
        try:
            await lab.workspace.checkout(text, start, False)
        except CheckoutError:
            continue
        assert lab.git("symbolic-ref", "HEAD") == f"refs/heads/{text}"
    assert await lab.workspace.head() == start
    assert not list(tmp_path.rglob("pwned"))
