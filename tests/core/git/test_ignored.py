"""Globs of ignored files become pathspecs in which nothing but the glob counts. Time budget: 1 s."""

from __future__ import annotations

import pytest

from gitmachine.errors import ConfigError
from gitmachine.git.ignored import glob_problem, pathspecs
from gitmachine.git.model import GitOptions


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


@pytest.mark.parametrize("glob", ["*.log", "..x", "a..b/c", "$(x)", "[", "\\"])
def test_an_odd_glob_is_none_the_less_a_glob(glob: str):
    assert glob_problem(glob) is None
