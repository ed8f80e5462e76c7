"""Copying between here and a machine that another process started. Time budget: 40 s."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from gitmachine.cli import main
from gitmachine.cli.copying import Sides, sides

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a:x", "y", Sides(name="a", inward=False, here="y", there="x")),
        ("y", "a:/x y:z", Sides(name="a", inward=True, here="y", there="/x y:z")),
        ("./b:c", "a:", Sides(name="a", inward=True, here="./b:c", there="")),
        ("-", "a:x", Sides(name="a", inward=True, here="-", there="x")),
        ("/tmp/b:c", "a:x", Sides(name="a", inward=True, here="/tmp/b:c", there="x")),
    ],
)
def test_the_machines_side_is_told_by_its_colon(source: str, target: str, expected: Sides) -> None:
    assert sides(source, target) == expected


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("a:x", "b:x"), (":x", "y"), ("./a:x", "y")])
def test_exactly_one_side_is_a_machines(source: str, target: str) -> None:
    with pytest.raises(click.UsageError, match="NAME:path"):
        sides(source, target)


@pytest.fixture
def machine(inside: Run, remote: Path) -> str:
    """A machine named a."""
    done = inside("start", "-r", str(remote), "-s", "feat", "--name", "a")
    assert done.returncode == 0, done.stderr
    return "a"


def tree(root: Path) -> None:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "two\nlines").write_text("odd")
    (root / "sub" / "run").write_text("#!/bin/sh\necho ran\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "link").symlink_to("sub/run")


def seen(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in root.rglob("*")
    }


@pytest.mark.requires("sandbox")
def test_files_and_directories_go_in_and_out_by_the_rules_of_cp(inside: Run, machine: str, tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    (tmp_path / "dir").mkdir()

    def found(script: str) -> str:
        return inside("exec", machine, "--", "sh", "-c", script).stdout

    first = inside("cp", "tree", "a:new")
    assert (first.returncode, first.stdout) == (0, "")
    assert "gitmachine: copied 3 files, " in first.stderr
    assert (
        found("new/sub/run; readlink new/link; test -d new/sub/empty && ls new")
        == "ran\nsub/run\nlink\nsub\ntwo\nlines\n"
    )
    assert inside("cp", "tree", "a:new").returncode == 0
    assert inside("cp", "tree/.", "a:made/by").returncode == 0
    assert inside("cp", "tree/sub/run", "a:made/").returncode == 0
    assert inside("cp", "tree/sub/run", "a:made/ran").returncode == 0
    assert (
        found("cd new/tree && ls; cd ../../made && ls; ls by")
        == "link\nsub\ntwo\nlines\nby\nran\nrun\nlink\nsub\ntwo\nlines\n"
    )
    for arguments, there in (
        (("a:new/tree", "out"), "out"),
        (("a:new/tree", "dir"), "dir/tree"),
        (("a:made/by/.", "dir"), "dir"),
        (("a:new/tree", "later/"), "later/tree"),
        (("a:/home/user/repo/made/run", "run"), "run"),
    ):
        done = inside("cp", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["target"] == there
        assert document["files"] == (1 if there == "run" else 3)
    assert seen(tmp_path / "out") == seen(tmp_path / "dir" / "tree") == seen(tmp_path / "tree")
    assert seen(tmp_path / "later" / "tree") == seen(tmp_path / "tree")
    assert (tmp_path / "dir" / "sub" / "run").is_file()
    assert os.access(tmp_path / "run", os.X_OK)
    assert inside("cp", "a:", "whole").returncode == 0
    assert (tmp_path / "whole" / ".git").is_dir()
    assert "A new/link" in inside("status", machine).stdout


@pytest.mark.requires("sandbox")
def test_a_dash_is_standard_input_or_output(
    inside: Run, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 10_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert inside("cp", "-", "a:p/data").returncode == 0
    back = inside("cp", "a:p/data", "-", text=False)
    assert (back.returncode, back.stdout) == (0, data)
    assert inside("exec", machine, "--", "sh", "-c", "cd p && ln -s data link && test ! -x data").returncode == 0
    assert inside("cp", "a:p/link", "-", text=False).stdout == data
    directory = inside("cp", "a:p", "-")
    assert (directory.returncode, directory.stdout) == (1, "")
    assert "it is a directory" in directory.stderr
    into = inside("cp", "-", "a:p")
    assert (into.returncode, "is a directory: name the file" in into.stderr) == (2, True)
    assert list(tmp_path.glob("gitmachine-*")) == []


@pytest.mark.requires("sandbox")
def test_what_cannot_be_copied_is_told_in_a_sentence(inside: Run, machine: str, tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    (tmp_path / "file").write_text("file")
    assert inside("exec", machine, "--", "touch", "f").returncode == 0
    for arguments, says in (
        (("missing", "a:x"), "'missing' on this host: no such file or directory"),
        (("a:missing", "x"), "missing': no such file or directory in the machine"),
        (("tree", "a:f/x"), "f/x': not a directory"),
        (("tree", "a:f"), "f': not a directory in the machine"),
        (("a:", "file"), "'file' on this host: not a directory"),
        (("a:.", "x", "--max-bytes", "5"), "more than 5 bytes"),
    ):
        done = inside("cp", *arguments)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
        assert says in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["cp"], 2, "missing argument"),
        (["cp", "a", "b"], 2, "neither SRC nor DST is in a machine"),
        (["cp", "a:x", "b:x"], 2, "both SRC and DST are in a machine"),
        (["cp", "a:x", "-", "--json"], 2, "--json needs standard output"),
        (["cp", "a:x", "y"], 1, "no machine has the name or id 'a'"),
        (["cp", "\x1b]0;x\x07:x", "y"], 1, "no machine has the name"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    args: list[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == code
    out, err = capfd.readouterr()
    assert (out, "Traceback" in err, "\x1b" in err) == ("", False, False)
    assert says in err
