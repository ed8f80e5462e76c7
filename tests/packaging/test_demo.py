"""The demonstration works, twice, and with a repository of one's own.

Time budget: 60 s.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.repos import git, make_remote

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


def demo(folder: Path, *args: str, within: tuple[str, ...] = ()) -> str:
    argv = [*within, sys.executable, str(DEMO), "--folder", str(folder), *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.requires("sandbox")
def test_the_demonstration_works_and_goes_on_when_it_is_run_again(tmp_path):
    first = demo(tmp_path)
    assert "pushed      true" in first
    assert "runs/1.txt" in first, "the new branch is shown"
    second = demo(tmp_path)
    assert "runs/2.txt" in second
    bare = tmp_path / "library.git"
    assert int(git("-C", bare, "rev-list", "--count", "main")) > 1000
    assert git("-C", bare, "rev-list", "--count", "main..demo") == "2"
    modes = {line.split()[0] for line in git("-C", bare, "ls-tree", "-r", "demo").splitlines()}
    assert {"100644", "100755", "120000"} <= modes


@pytest.mark.requires("sandbox")
def test_the_demonstration_takes_a_repository_of_ones_own(tmp_path):
    own = make_remote(tmp_path / "own.git", commits=3)
    assert "runs/1.txt" in demo(tmp_path / "folder", "--repository", str(own))
    assert git("-C", own, "rev-list", "--count", "main..demo") == "1"


@pytest.mark.requires("bwrap", "sandbox")
def test_without_a_sandbox_the_demonstration_says_so_in_one_line_and_works(tmp_path):
    # A host that forbids user namespaces, made by a sandbox that forbids them inside.
    within = ("bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--unshare-user", "--disable-userns", "--")
    shown = demo(tmp_path, within=within)
    assert len([line for line in shown.splitlines() if "no sandbox can be had here" in line]) == 1
    assert "-o isolation=none" in shown
    assert "pushed      true" in shown


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_python_that_is_too_old_is_told_and_nothing_is_made(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    argv = ["make", "-C", str(DEMO.parents[1]), "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode != 0
    assert f"GitMachine needs Python 3.11 or later; '{old}' is not that" in done.stderr
    assert not (tmp_path / "venv").exists()
