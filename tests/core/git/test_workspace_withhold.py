"""Automatic commits that leave paths out, in every shell of this host.

Time budget: 20 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.git.model import Change
from support.workspaces import SHELLS, Lab

ODD = ["-n", "new\nline", "sp ace/[x]*", ":(top)magic", "ü", "quote'\"$(x)"]


@pytest.fixture(params=SHELLS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return Lab(tmp_path, shell=request.param).init({"a": "1\n", "tracked": "old\n", "dir/b": "2\n"})


async def test_what_is_withheld_stays_as_head_has_it_and_the_rest_is_committed(lab: Lab):
    lab.write({"a": "changed\n", "tracked": "secret\n", "dir/key": "secret\n", "dir/fine": "x\n"})
    outcome = await lab.workspace.commit("work\n\nwith a body", auto=True, withhold=["tracked", "dir/key"])
    assert outcome is not None
    assert outcome.changes.files == (Change("M", "a"), Change("A", "dir/fine"))
    assert outcome.withheld == ("tracked", "dir/key")
    assert lab.git("log", "-1", "--format=%B").strip() == "work\n\nwith a body"
    assert lab.git("show", "HEAD:tracked") == "old"
    assert (lab.path / "tracked").read_text() == "secret\n"
    assert lab.git("status", "--porcelain") == " M tracked\n?? dir/key"


async def test_what_was_staged_before_is_withheld_too(lab: Lab):
    lab.write({"a": "changed\n", "key": "secret\n", "tracked": "secret\n"})
    lab.git("add", "-A")
    outcome = await lab.workspace.commit("work", auto=True, withhold=["key", "tracked"])
    assert outcome is not None
    assert outcome.changes.files == (Change("M", "a"),)
    assert "secret" not in lab.git("log", "-p", "--all")


async def test_withheld_names_mean_nothing_to_git_or_a_shell(lab: Lab):
    lab.write(dict.fromkeys(ODD, "secret\n") | {"fine": "x\n"})
    outcome = await lab.workspace.commit("work", auto=True, withhold=ODD)
    assert outcome is not None
    assert outcome.changes.files == (Change("A", "fine"),)


async def test_with_everything_withheld_there_is_no_commit(lab: Lab):
    lab.write({"key": "secret\n"})
    assert await lab.workspace.commit("work", auto=True, withhold=["key"]) is None


async def test_the_first_commit_can_withhold(tmp_path: Path):
    lab = Lab(tmp_path).init()
    lab.write({"key": "secret\n"})
    assert await lab.workspace.commit("work", auto=True, withhold=["key"]) is None
    lab.git("add", "-A")
    assert await lab.workspace.commit("work", auto=True, withhold=["key"]) is None
    lab.write({"fine": "x\n"})
    outcome = await lab.workspace.commit("work", auto=True, withhold=["key"])
    assert outcome is not None
    assert outcome.changes.files == (Change("A", "fine"),)


async def test_a_withheld_deletion_keeps_the_file_in_the_commit(lab: Lab):
    (lab.path / "tracked").unlink()
    lab.write({"a": "changed\n"})
    outcome = await lab.workspace.commit("work", auto=True, withhold=["tracked"])
    assert outcome is not None
    assert lab.git("show", "HEAD:tracked") == "old"
