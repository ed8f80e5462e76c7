"""Globs of ignored files become pathspecs in which nothing but the glob counts. Time budget: 15 s."""

from __future__ import annotations

import os
import subprocess

import pytest

from gitmachine.errors import ConfigError
from gitmachine.git.ignored import glob_problem, matcher, pathspecs
from gitmachine.git.model import GitOptions, GuardOptions
from support.repos import git


@pytest.mark.parametrize(
    ("glob", "patterns"),
    [
        ("*.log", ["**/*.log", "**/*.log/**"]),
        ("dist", ["**/dist", "**/dist/**"]),
        ("dist/", ["**/dist/**"]),
        ("/dist", ["dist", "dist/**"]),
        ("/dist/", ["dist/**"]),
        ("a/*.xml", ["a/*.xml", "a/*.xml/**"]),
        ("./a//b", ["a/b", "a/b/**"]),
        ("**/x", ["**/x", "**/x/**"]),
        (":(exclude)x", ["**/:(exclude)x", "**/:(exclude)x/**"]),
        ("-rf", ["**/-rf", "**/-rf/**"]),
    ],
)
def test_a_glob_is_read_like_a_line_of_gitignore(glob: str, patterns: list[str]):
    assert pathspecs([glob, glob]) == tuple(f":(top,glob){pattern}" for pattern in patterns)


@pytest.mark.parametrize("glob", ["", "  ", "/", ".", "./", "../x", "a/../../x", "!*.log", "a\0b", "\ud800"])
def test_a_glob_that_means_nothing_is_refused_with_the_setting_it_came_from(glob: str):
    assert glob_problem(glob) is not None
    with pytest.raises(ConfigError, match=r"git\.keep_ignored"):
        GitOptions(keep_ignored=("*.log", glob))
    with pytest.raises(ConfigError, match=r"guard\.allow"):
        GuardOptions(allow=("*.log", glob))


@pytest.mark.parametrize("glob", ["*.log", "..x", "a..b/c", "$(x)", "[", "\\"])
def test_an_odd_glob_is_none_the_less_a_glob(glob: str):
    assert glob_problem(glob) is None


PATHS = [
    "x",
    "a/x",
    "a/b/x",
    "x/y",
    "a/x/y",
    "log.txt",
    "a/log.txt",
    "a.log",
    "b/a.log",
    "b/a.log/c",
    "d/e/f",
    "[x]",
    "a-b",
]
GLOBS = [
    "x",
    "/x",
    "x/",
    "/x/",
    "*.log",
    "a/*",
    "a/**",
    "**/x",
    "a/**/x",
    "?",
    "[a-c].log",
    "[!a].log",
    "l*.txt",
    "a/x",
    "[",
    "*",
]


@pytest.mark.parametrize("glob", GLOBS)
def test_a_path_matches_when_git_says_so(glob: str, tmp_path):
    git("init", "-q", tmp_path)
    matches, found = matcher([glob]), set()
    for path in PATHS:
        blob = git("-C", tmp_path, "hash-object", "-w", "--stdin", stdin=b"")
        index = {"GIT_INDEX_FILE": str(tmp_path / "index")}
        (tmp_path / "index").unlink(missing_ok=True)
        info = f"100644 {blob}\t{path}\0".encode()
        argv = ["git", "-C", str(tmp_path)]
        env = {**os.environ, **index}
        subprocess.run([*argv, "update-index", "-z", "--index-info"], input=info, env=env, check=True, timeout=60)
        listed = subprocess.run(
            [*argv, "ls-files", "-z", "--", *pathspecs([glob])], env=env, capture_output=True, check=True, timeout=60
        )
        if listed.stdout:
            found.add(path)
    assert {path for path in PATHS if matches(path)} == found


def test_a_newline_in_a_path_is_matched_like_any_character():
    assert matcher(["*.log"])("a\nb.log")
    assert not matcher(["x"])("x\ny")
