"""The scripts under each POSIX shell of this host, busybox with its own tools included.

Time budget: 40 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.errors import CommitError, CommitRejected, GitError, PullConflictError, PullDivergedError
from gitmachine.execution import ExecRequest
from gitmachine.git import gathering, integration, scripts, shell
from gitmachine.git.model import GitIdentity
from support.workspaces import SHELLS, Lab

SCRIPTS = {
    **{name: getattr(scripts, name) for name in scripts.__all__},
    "LIBRARY": shell.LIBRARY,
    "GATHER_LIBRARY": gathering.GATHER_LIBRARY,
    "GATHER": gathering.GATHER,
    "INTEGRATE": integration.INTEGRATE,
    "RESTORE": integration.RESTORE,
}


@pytest.mark.parametrize("name", SHELLS)
async def test_a_whole_story_works_under_each_shell(tmp_path: Path, name: str):
    lab = Lab(tmp_path, shell=name).init({"a": "1\n", "b": "2\n", ".gitignore": "*.log\n"})
    workspace = lab.workspace
    start = await workspace.head()
    assert start is not None
    lab.git("update-ref", "-d", "HEAD")
    lab.git("rm", "-q", "-r", "-f", ".")
    await workspace.checkout("session", start, True)
    lab.nested("nes\nted/-x", {"x": "y"})
    lab.nested("unborn")
    lab.write({"a": "changed\n", "new\nline": "x", "-dash": "x", "x.log": "x", "large": b"x" * 5000})
    changes = await workspace.changes()
    assert [change.path for change in changes.files] == ["-dash", "a", "large", "new\nline"]
    assert changes.nested == ("nes\nted/-x", "unborn")
    assert (await workspace.diff()).count("diff --git") == 4
    snapshot = await workspace.snapshot("before", max_untracked_bytes=1000)
    assert snapshot.skipped == ("large",)
    survey = await workspace.survey()
    assert [one.path for one in survey.repositories] == ["", "nes\nted/-x", "unborn"]
    assert survey.ignored == 1
    outcome = await workspace.commit("# message\n")
    assert outcome is not None
    assert outcome.changes.files == changes.files
    assert outcome.changes.nested == changes.nested
    (newest, _oldest) = await workspace.log()
    assert (newest.sha, newest.subject) == (outcome.sha, "# message")
    lab.hook("pre-commit", "echo refused; exit 1")
    lab.write({"b": "later\n"})
    with pytest.raises(CommitRejected):
        await workspace.commit("explicit")
    assert await workspace.commit("auto", auto=True) is not None
    await workspace.restore(snapshot.sha, branch="session")
    assert {change.path for change in (await workspace.changes()).files} == {"-dash", "a", "new\nline"}
    (lab.path / ".git/index.lock").touch()
    with pytest.raises(CommitError, match=r"index\.lock"):
        await workspace.commit("locked", auto=True)


@pytest.mark.parametrize("name", SHELLS)
async def test_a_pull_works_under_each_shell(tmp_path: Path, name: str):
    lab = Lab(tmp_path, shell=name).init({"a": "1\n", "b": "2\n"})
    lab.write({"b": "theirs\n", "new": "x"})
    assert await lab.workspace.commit("theirs") is not None
    upstream = await lab.workspace.head()
    assert upstream is not None
    for policy in ("merge", "rebase"):
        lab.git("reset", "-q", "--hard", f"{upstream}^")
        lab.write({"a": f"ours by {policy}\n"})
        assert await lab.workspace.commit("ours") is not None
        assert await lab.workspace.divergence(upstream) == (1, 1)
        with pytest.raises(PullDivergedError):
            await lab.workspace.integrate(upstream, "ff")
        lab.write({"new": "in the way"})
        with pytest.raises(PullConflictError) as caught:
            await lab.workspace.integrate(upstream, policy)
        assert caught.value.files == ("new",)
        (lab.path / "new").unlink()
        _old, new = await lab.workspace.integrate(upstream, policy)
        assert [(lab.path / name).read_text() for name in "ab"] == [f"ours by {policy}\n", "theirs\n"]
        assert lab.git("rev-parse", "main") == new
    lab.git("reset", "-q", "--hard", f"{upstream}^")
    lab.write({"b": "ours\n"})
    assert await lab.workspace.commit("conflict") is not None
    with pytest.raises(PullConflictError) as caught:
        await lab.workspace.integrate(upstream, "rebase")
    assert caught.value.files == ("b",)


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("script", SCRIPTS)
async def test_each_script_is_understood_by_each_shell(tmp_path: Path, name: str, script: str):
    lab = Lab(tmp_path, shell=name)
    result = await lab.runner(ExecRequest(argv=("sh", "-n", "-c", SCRIPTS[script]), cwd=str(tmp_path)))
    assert (result.exit_code, result.stderr) == (0, "")


async def test_what_git_prints_is_english_whatever_the_machine_speaks(tmp_path: Path):
    lab = Lab(tmp_path, env={"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}).init({"a": "1"})
    with pytest.raises(GitError) as caught:
        await lab.workspace.integrate("refs/none", "ff")
    assert "no commit 'refs/none'" in str(caught.value)


def test_the_environment_is_the_identity_and_no_questions():
    env = shell.environment(GitIdentity("A", "b@c"))
    assert env["GIT_COMMITTER_NAME"] == env["GIT_AUTHOR_NAME"] == "A"
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    assert not {"LC_ALL", "GIT_DIR", "GIT_INDEX_FILE"} & set(env)


def test_arguments_are_positional():
    argv = shell.arguments("true\n", "--x", "$(y)")
    assert argv[:2] == ("sh", "-c")
    assert argv[-2:] == ("--x", "$(y)")
    assert argv[2].endswith("true\n")
