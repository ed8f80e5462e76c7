"""A survey keeps the ignored files that it is told to, as they are. Time budget: 40 s."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gitmachine.errors import ConfigError
from gitmachine.git.model import IGNORED_REF
from support.workspaces import SHELLS, Lab

RULES = "*.log\nignored/\nvendor/\nodd/\n"


@pytest.fixture(params=SHELLS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return Lab(tmp_path, shell=request.param).init({"a": "1\n", "dir/b": "2\n", ".gitignore": RULES})


async def kept(lab: Lab, *globs: str) -> dict[str, bytes]:
    """Survey, and return the content of every file that was kept."""
    survey = await lab.workspace.survey(keep_ignored=globs)
    return content(lab, survey.refs.get(IGNORED_REF))


def content(lab: Lab, sha: str | None) -> dict[str, bytes]:
    if sha is None:
        return {}
    command = ("git", "-C", str(lab.path))
    names = subprocess.run((*command, "ls-tree", "-rz", "--name-only", sha), capture_output=True, check=True).stdout
    return {
        os.fsdecode(name): subprocess.run(
            (*command, "cat-file", "blob", sha + ":" + os.fsdecode(name)), capture_output=True, check=True
        ).stdout
        for name in names.split(b"\0")[:-1]
    }


async def test_without_globs_nothing_ignored_is_kept(lab: Lab):
    lab.write({"x.log": "x", "ignored/y": "y"})
    survey = await lab.workspace.survey()
    assert IGNORED_REF not in survey.refs
    assert survey.ignored == 2


async def test_a_name_matches_at_any_depth_and_a_path_from_the_top(lab: Lab):
    lab.write({"x.log": "x", "dir/y.log": "y", "ignored/deep/z.log": "z", "ignored/deep/w": "w", "untracked": "u"})
    assert await kept(lab, "*.log") == {"x.log": b"x", "dir/y.log": b"y", "ignored/deep/z.log": b"z"}
    assert await kept(lab, "/*.log") == {"x.log": b"x"}
    assert await kept(lab, "dir/*.log", "w") == {"dir/y.log": b"y", "ignored/deep/w": b"w"}
    # What is not ignored is work anyway; what matches nothing leaves no ref behind.
    assert await kept(lab, "untracked", "a", "no such thing") == {}
    assert lab.git("for-each-ref", IGNORED_REF) == ""


async def test_a_directory_stands_for_all_in_it_whether_it_is_ignored_as_a_whole_or_not(lab: Lab):
    lab.write({"ignored/deep/z": "z", "ignored/w": "w", "dir/y.log": "y"})
    everything = {"ignored/deep/z": b"z", "ignored/w": b"w"}
    assert await kept(lab, "ignored") == everything
    assert await kept(lab, "ignored/") == everything
    assert await kept(lab, "ignored/**") == everything
    assert await kept(lab, "deep/") == {"ignored/deep/z": b"z"}
    assert await kept(lab, "dir") == {"dir/y.log": b"y"}


async def test_equal_files_give_an_equal_commit_and_the_users_repository_stays_as_it_was(lab: Lab):
    lab.write({"x.log": "x", "ignored/y": "y"})
    index, head = lab.index(), lab.git("rev-parse", "HEAD")
    first = await lab.workspace.survey(keep_ignored=["*.log", "ignored"])
    assert await lab.workspace.survey(keep_ignored=["*.log", "ignored"]) == first
    assert lab.git("rev-list", "--parents", "-1", first.refs[IGNORED_REF]) == first.refs[IGNORED_REF]
    assert (lab.index(), lab.git("rev-parse", "HEAD")) == (index, head)
    assert lab.git("status", "--porcelain") == ""
    assert (first.head, first.tree, first.branch) == (head, lab.tree(), "main")
    # A commit of other files leaves it alone; a change of one of its own does not.
    lab.write({"other": "x"})
    await lab.workspace.commit("other")
    second = await lab.workspace.survey(keep_ignored=["*.log", "ignored"])
    assert second.refs[IGNORED_REF] == first.refs[IGNORED_REF]
    lab.write({"x.log": "more"})
    third = await lab.workspace.survey(keep_ignored=["*.log", "ignored"])
    assert third.refs[IGNORED_REF] != first.refs[IGNORED_REF]
    (lab.path / "x.log").unlink()
    shutil.rmtree(lab.path / "ignored")
    assert IGNORED_REF not in (await lab.workspace.survey(keep_ignored=["*.log", "ignored"])).refs


async def test_bytes_modes_and_links_are_kept_as_they_are_and_no_filter_sees_them(lab: Lab):
    lab.git("config", "filter.pointer.clean", "echo pointer")
    lab.git("config", "core.autocrlf", "input")
    lab.write(
        {".gitattributes": "*.log text=auto filter=pointer\n", "x.log": b"a\r\nb\r\n", "ignored/run": "#!/bin/sh\n"}
    )
    (lab.path / "ignored/run").chmod(0o755)
    (lab.path / "ignored/link").symlink_to("/nowhere\nat all")
    (lab.path / "ignored/empty").touch()
    survey = await lab.workspace.survey(keep_ignored=["x.log", "ignored"])
    sha = survey.refs[IGNORED_REF]
    assert content(lab, sha) == {
        "x.log": b"a\r\nb\r\n",
        "ignored/run": b"#!/bin/sh\n",
        "ignored/link": b"/nowhere\nat all",
        "ignored/empty": b"",
    }
    modes = {line.split("\t")[1]: line[:6] for line in lab.git("ls-tree", "-r", sha).splitlines()}
    assert modes == {
        "x.log": "100644",
        "ignored/run": "100755",
        "ignored/link": "120000",
        "ignored/empty": "100644",
    }
    assert survey.unreadable == ()


async def test_hostile_names_and_globs_are_only_names_and_globs(lab: Lab):
    names = ["$(touch pwned)", "`touch pwned`", "-rf", "a\nb", '"quoted"', " ", ":(top)x", "\\n", "@skipped", "\udcff"]
    lab.write({"odd/fine": "fine"})
    for name in names:
        (lab.path / "odd" / name).write_text(ascii(name))
    expected = {f"odd/{name}": ascii(name).encode() for name in names} | {"odd/fine": b"fine"}
    before = sorted(lab.path.iterdir())
    assert await kept(lab, "odd") == expected
    hostile = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "-rf", "--exclude-standard", ":(exclude)*", "'", '"']
    found = await kept(lab, *hostile, "[", "\\", "a\nb", "@skipped")
    assert set(found) == {f"odd/{name}" for name in ("$(touch pwned)", "`touch pwned`", "-rf", "a\nb", "@skipped")}
    assert sorted(lab.path.iterdir()) == before


async def test_a_name_that_git_refuses_is_reported_and_the_others_are_kept(lab: Lab):
    lab.write({"ignored/git~1": "x", "ignored/fine": "y", "ignored/sub/.git ": "z"})
    survey = await lab.workspace.survey(keep_ignored=["ignored"])
    assert content(lab, survey.refs[IGNORED_REF]) == {"ignored/fine": b"y"}
    assert survey.unreadable == ("ignored/git~1", "ignored/sub/.git ")


async def test_what_cannot_be_read_is_reported_and_the_others_are_kept(lab: Lab):
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        dropped = "-dac_override,-dac_read_search"
        prefix = (shutil.which("setpriv") or "", f"--bounding-set={dropped}", f"--inh-caps={dropped}")
        if not prefix[0] or subprocess.run((*prefix, "true"), capture_output=True, check=False).returncode:
            pytest.skip("root here cannot give up reading every file (setpriv)")
    lab.runner.prefix = prefix
    lab.write({"x.log": "x", "ignored/secret": "s", "ignored/fine": "f"})
    (lab.path / "ignored/secret").chmod(0)
    survey = await lab.workspace.survey(keep_ignored=["*.log", "ignored"])
    assert content(lab, survey.refs[IGNORED_REF]) == {"x.log": b"x", "ignored/fine": b"f"}
    assert survey.unreadable == ("ignored/secret",)
    # Files that match nothing are nobody's business.
    assert (await lab.workspace.survey(keep_ignored=["*.log"])).unreadable == ()


async def test_only_the_main_repository_is_looked_at(lab: Lab):
    lab.nested("nested", {"n": "n", ".gitignore": "*.log\n"})
    lab.nested("vendor", {"v.log": "v"})
    lab.write({"x.log": "x", "nested/y.log": "y", "vendor/z.log": "z"})
    survey = await lab.workspace.survey(keep_ignored=["*.log", "vendor"])
    assert content(lab, survey.refs[IGNORED_REF]) == {"x.log": b"x"}
    assert IGNORED_REF not in survey.nested_refs["nested"]


async def test_a_repository_without_a_commit_keeps_them_too(tmp_path: Path):
    lab = Lab(tmp_path).init()
    lab.write({".gitignore": "*.log\n", "x.log": "x"})
    survey = await lab.workspace.survey(keep_ignored=["*.log"])
    assert survey.head is None
    assert content(lab, survey.refs[IGNORED_REF]) == {"x.log": b"x"}


async def test_a_glob_that_means_nothing_is_an_error_before_anything_runs(lab: Lab):
    with pytest.raises(ConfigError, match="inside the repository"):
        await lab.workspace.survey(keep_ignored=["../x"])
    assert lab.runner.count == 0
