"""Commits in the machine: what is staged, whose hooks run, what stops one.

Time budget: 40 s.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import CommandTimeoutError, CommitError, CommitRejected, ConfigError, GitError
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.git.model import Change
from gitmachine.git.workspace import Workspace
from support.repos import git
from support.workspaces import IDENTITY, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path).init({"a": "1\n", "dir/b": "2\n", ".gitignore": "*.log\n"})


async def test_a_clean_repository_gives_no_commit(lab: Lab):
    assert await lab.workspace.commit("nothing") is None
    assert await lab.workspace.commit("nothing", auto=True) is None


@pytest.mark.parametrize("auto", [True, False])
async def test_everything_is_staged_and_committed_as_the_session(lab: Lab, auto: bool):
    before = lab.git("rev-parse", "HEAD")
    lab.write({"a": "changed\n", "new/file": "x", "ignored.log": "x"})
    (lab.path / "dir/b").unlink()
    (lab.path / "link").symlink_to("a")
    (lab.path / "a").chmod(0o755)
    outcome = await lab.workspace.commit("work", auto=auto)
    assert outcome is not None
    assert outcome.sha == lab.git("rev-parse", "HEAD") == await lab.workspace.head()
    assert outcome.changes.files == (
        Change("M", "a"),
        Change("D", "dir/b"),
        Change("A", "link"),
        Change("A", "new/file"),
    )
    assert lab.git("log", "-1", "--format=%P %an %ae %cn %ce") == (
        f"{before} Session Agent agent@example.org Session Agent agent@example.org"
    )
    assert lab.git("status", "--porcelain") == ""
    assert "ignored.log" not in lab.git("ls-files")
    assert lab.git("symbolic-ref", "HEAD") == "refs/heads/main"


@pytest.mark.parametrize("auto", [True, False])
async def test_an_empty_repository_gets_its_first_commit(tmp_path: Path, auto: bool):
    lab = Lab(tmp_path).init()
    assert await lab.workspace.head() is None
    assert await lab.workspace.commit("none", auto=auto) is None
    lab.write({"first": "x"})
    outcome = await lab.workspace.commit("first", auto=auto)
    assert outcome is not None
    assert outcome.changes.files == (Change("A", "first"),)
    assert lab.git("rev-list", "--count", "main") == "1"


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        "# not a comment",
        "--amend",
        "-F /etc/passwd",
        "  leading and trailing  \n\n\n",
        "$(touch pwned) `touch pwned` '\" \\ %s %00",
        "subject\n\nbody\n# ------------------------ >8 ------------------------\nkept",
        "grüße 日本語",
        "x" * 200_000,
        "a\r\nb",
    ],
)
async def test_a_message_arrives_exactly(lab: Lab, message: str, auto: bool):
    lab.git("config", "commit.verbose", "true")
    lab.git("config", "commit.cleanup", "strip")
    lab.write({"a": "x"})
    outcome = await lab.workspace.commit(message, auto=auto)
    assert outcome is not None
    assert outcome.message == message
    raw = subprocess.run(["git", "-C", lab.path, "cat-file", "commit", "HEAD"], capture_output=True, check=True).stdout
    body = raw.split(b"\n\n", 1)[1].decode("utf-8", "surrogateescape")
    assert body == (message if message.endswith("\n") else message + "\n")
    assert not (lab.path / "pwned").exists()


async def test_a_byte_that_is_not_utf8_is_read_as_latin_1_as_git_does(lab: Lab):
    lab.write({"a": "x"})
    assert await lab.workspace.commit("caf\udce9") is not None
    assert (await lab.workspace.log(1))[0].subject == "café"


async def test_a_message_without_words_is_refused_or_replaced(lab: Lab):
    lab.write({"a": "x"})
    with pytest.raises(ConfigError, match="blank"):
        await lab.workspace.commit(" \n")
    with pytest.raises(ConfigError, match="NUL"):
        await lab.workspace.commit("a\0b")
    assert await lab.workspace.commit("\0", auto=True) is not None
    assert lab.git("log", "-1", "--format=%B") == "checkpoint"


async def test_the_message_is_never_part_of_the_script(lab: Lab):
    lab.write({"a": "x"})
    await lab.workspace.commit("canary-message")
    assert all("canary-message" not in part for argv in lab.runner.argv for part in argv)


@pytest.mark.parametrize("hook", ["pre-commit", "commit-msg", "prepare-commit-msg", "reference-transaction"])
async def test_a_hook_that_refuses_rejects_an_explicit_commit(lab: Lab, hook: str):
    lab.write({"new": "x"})
    before = lab.git("rev-parse", "HEAD")
    lab.hook(hook, "echo refused by policy 42; exit 1")
    with pytest.raises(CommitRejected, match=r"refuse|abort") as caught:
        await lab.workspace.commit("no")
    assert "refused by policy 42" in caught.value.stderr
    assert caught.value.argv == ("git", "commit")
    assert lab.git("rev-parse", "HEAD") == before
    assert (lab.path / "new").read_text() == "x"


async def test_hooks_of_a_configured_path_run_too(lab: Lab):
    lab.hook("pre-commit", "echo from the configured path >&2; exit 1")
    (lab.path / ".git/hooks").rename(lab.path / ".git/other")
    lab.git("config", "core.hooksPath", str(lab.path / ".git/other"))
    lab.write({"new": "x"})
    with pytest.raises(CommitRejected) as caught:
        await lab.workspace.commit("no")
    assert "from the configured path" in caught.value.stderr


async def test_an_automatic_commit_runs_no_hook_at_all(lab: Lab):
    hooks = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "reference-transaction")
    for hook in (*hooks, "post-index-change"):
        lab.hook(hook, f"touch '{lab.home}/ran-{hook}'; exit 1")
    lab.write({"new": "x"})
    assert await lab.workspace.commit("auto", auto=True) is not None
    assert not list(lab.home.glob("ran-*"))


async def test_a_hook_that_changes_files_is_respected(lab: Lab):
    lab.hook("pre-commit", "echo formatted >a; git add a; echo left >left-behind")
    lab.write({"a": "raw\n"})
    outcome = await lab.workspace.commit("formatted")
    assert outcome is not None
    assert lab.git("show", "HEAD:a") == "formatted"
    assert outcome.changes.files == (Change("M", "a"),)
    assert lab.git("status", "--porcelain") == "?? left-behind"


async def test_hooks_see_the_locale_of_the_machine(tmp_path: Path):
    lab = Lab(tmp_path, env={"LC_ALL": "C.UTF-8"}).init({"a": "1"})
    lab.hook("pre-commit", f"printf %s \"$LC_ALL\" >'{lab.home}/locale'")
    lab.write({"a": "2"})
    await lab.workspace.commit("x")
    assert (lab.home / "locale").read_text() == "C.UTF-8"


@pytest.mark.parametrize("auto", [True, False])
async def test_nested_repositories_are_not_added_and_are_listed(lab: Lab, auto: bool):
    lab.nested("nested/in side\n", {"file": "x"})
    lab.nested("unborn")
    lab.write({"new": "x"})
    outcome = await lab.workspace.commit("work", auto=auto)
    assert outcome is not None
    assert outcome.changes.files == (Change("A", "new"),)
    assert outcome.changes.nested == ("nested/in side\n", "unborn")
    assert "160000" not in lab.git("ls-files", "-s")
    assert await lab.workspace.commit("again", auto=auto) is None


async def test_a_nested_repository_in_place_of_a_file_is_a_deletion(lab: Lab):
    (lab.path / "a").unlink()
    lab.nested("a", {"file": "x"})
    outcome = await lab.workspace.commit("work")
    assert outcome is not None
    assert outcome.changes.files == (Change("D", "a"),)
    assert outcome.changes.nested == ("a",)


async def test_submodules_are_committed_as_git_does(lab: Lab, tmp_path: Path):
    source = tmp_path / "source"
    git("init", "-q", source)
    git("-C", source, "commit", "-q", "--allow-empty", "-m", "one")
    lab.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "sub")
    lab.nested("nested", {"file": "x"})
    outcome = await lab.workspace.commit("add the submodule")
    assert outcome is not None
    assert outcome.changes.files == (Change("A", ".gitmodules"), Change("A", "sub"))
    git("-C", lab.path / "sub", "commit", "-q", "--allow-empty", "-m", "two")
    outcome = await lab.workspace.commit("move it", auto=True)
    assert outcome is not None
    assert outcome.changes.files == (Change("M", "sub"),)
    assert lab.git("rev-parse", "HEAD:sub") == git("-C", lab.path / "sub", "rev-parse", "HEAD")


def _conflict(lab: Lab, operation: str) -> None:
    base = lab.git("rev-parse", "HEAD")
    lab.write({"a": "theirs\n"})
    lab.git("commit", "-qam", "theirs")
    theirs = lab.git("rev-parse", "HEAD")
    if operation == "revert":
        lab.write({"a": "later\n"})
        lab.git("commit", "-qam", "later")
    elif operation == "am":
        lab.git("format-patch", "-q", "-1", "-o", lab.home)
    if operation != "revert":
        lab.git("reset", "-q", "--hard", base)
        lab.write({"a": "ours\n"})
        lab.git("commit", "-qam", "ours")
    commands = {
        "merge": ("merge", theirs),
        "rebase": ("rebase", theirs),
        "cherry-pick": ("cherry-pick", theirs),
        "revert": ("revert", "--no-edit", theirs),
        "am": ("am", "-q", "-3", lab.home / "0001-theirs.patch"),
        "bisect": ("bisect", "start"),
    }
    lab.git(*commands[operation], check=False)


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert", "am", "bisect"])
async def test_an_unfinished_operation_is_committed_nowhere(lab: Lab, operation: str):
    _conflict(lab, operation)
    lab.write({"new": "x"})
    head, index = lab.git("rev-parse", "HEAD"), lab.index()
    assert (await lab.workspace.changes()).in_progress == operation
    for auto in (True, False):
        with pytest.raises(CommitError, match=operation) as caught:
            await lab.workspace.commit("no", auto=auto)
        assert caught.value.in_progress == operation
    assert lab.git("rev-parse", "HEAD") == head
    assert lab.index() == index


async def test_an_explicit_commit_concludes_a_resolved_merge_and_an_automatic_one_does_not(lab: Lab):
    _conflict(lab, "merge")
    lab.write({"a": "resolved\n"})
    lab.git("add", "a")
    with pytest.raises(CommitError, match="merge"):
        await lab.workspace.commit("auto", auto=True)
    lab.write({"more": "x"})
    outcome = await lab.workspace.commit("merged")
    assert outcome is not None
    assert len(lab.git("log", "-1", "--format=%P").split()) == 2
    assert (await lab.workspace.changes()).in_progress is None
    assert lab.git("show", "HEAD:a") == "resolved"


async def test_conflicts_without_an_operation_are_named(lab: Lab):
    lab.write({"a": "stashed\n"})
    lab.git("stash")
    lab.write({"a": "committed\n"})
    lab.git("commit", "-qam", "other")
    lab.git("stash", "pop", check=False)
    with pytest.raises(CommitError, match="unresolved conflicts") as caught:
        await lab.workspace.commit("no", auto=True)
    assert caught.value.in_progress == "conflicts"


async def test_a_detached_head_takes_the_commit(lab: Lab):
    lab.git("checkout", "-q", "--detach")
    main = lab.git("rev-parse", "main")
    lab.write({"new": "x"})
    outcome = await lab.workspace.commit("detached", auto=True)
    assert outcome is not None
    assert lab.git("rev-parse", "HEAD") == outcome.sha
    assert lab.git("rev-parse", "main") == main


@pytest.mark.parametrize("auto", [True, False])
async def test_a_lock_that_stays_is_an_error_that_names_it(lab: Lab, auto: bool):
    lock = lab.path / ".git/index.lock"
    lock.touch()
    lab.write({"new": "x"})
    with pytest.raises(CommitError, match=r"index\.lock"):
        await lab.workspace.commit("no", auto=auto)
    assert lock.exists()
    assert lab.git("status", "--porcelain") == "?? new"


async def test_a_lock_that_goes_away_is_waited_for(lab: Lab):
    lock = lab.path / ".git/index.lock"
    lock.touch()
    lab.write({"new": "x"})
    patient = Workspace(lab.runner, str(lab.path), IDENTITY, lock_wait_seconds=60)
    commit = asyncio.create_task(patient.commit("yes"))
    await asyncio.sleep(0.3)  # long enough that the script usually meets the lock; correct either way
    lock.unlink()
    assert await commit is not None


async def test_the_configuration_of_a_user_changes_nothing(lab: Lab):
    script = lab.home / "never.sh"
    script.write_text(f"#!/bin/sh\ntouch '{lab.home}/ran'\nexit 1\n")
    script.chmod(0o755)
    settings = {
        "commit.gpgSign": "true",
        "gpg.program": str(script),
        "core.fsmonitor": str(script),
        "core.editor": str(script),
        "core.pager": str(script),
        "core.safecrlf": "true",
        "core.autocrlf": "true",
        "core.quotePath": "false",
        "commit.template": str(script),
        "commit.status": "false",
        "status.short": "true",
        "status.branch": "true",
        "status.showUntrackedFiles": "no",
        "status.relativePaths": "false",
        "color.ui": "always",
        "diff.external": str(script),
        "alias.add": "!false",
        "log.showSignature": "true",
        "format.pretty": "oneline",
        "user.name": "Somebody Else",
        "user.useConfigOnly": "true",
        "i18n.commitEncoding": "ISO-8859-1",
    }
    for name, value in settings.items():
        git("config", "--file", lab.home / ".gitconfig", name, value)
    lab.runner.env["GIT_CONFIG_GLOBAL"] = str(lab.home / ".gitconfig")
    lab.write({"untracked": "line\n", "a": "ä\n", "crlf": b"1\r\n2\n"})
    paths = ("a", "crlf", "untracked")
    assert tuple(change.path for change in (await lab.workspace.changes()).files) == paths
    assert "\x1b" not in await lab.workspace.diff()
    assert await lab.workspace.commit("grüße") is not None
    (newest, *_rest) = await lab.workspace.log(1)
    assert (newest.subject, newest.author_name) == ("grüße", IDENTITY.name)
    assert (await lab.workspace.survey()).head == newest.sha
    assert not (lab.home / "ran").exists()


async def test_the_environment_of_the_machine_changes_nothing(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    git("init", "-q", elsewhere)
    hostile = {
        "GIT_DIR": str(elsewhere / ".git"),
        "GIT_WORK_TREE": str(elsewhere),
        "GIT_INDEX_FILE": str(elsewhere / "index"),
        "GIT_OBJECT_DIRECTORY": str(elsewhere / "objects"),
        "GIT_NAMESPACE": "other",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_TRACE": "1",
        "GIT_AUTHOR_DATE": "@0 +0000",
        "GIT_AUTHOR_NAME": "Somebody Else",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.worktree",
        "GIT_CONFIG_VALUE_0": "/nowhere",
        "CDPATH": "/",
        "LC_ALL": "C.UTF-8",
        "IFS": "e",
        "GREP_OPTIONS": "-v",
    }
    lab = Lab(tmp_path, env=hostile).init({"a": "1"})
    lab.write({"a": "2", "new": "x"})
    lab.nested("nested", {"x": "y"})
    assert (await lab.workspace.diff()).count("diff --git") == 2
    outcome = await lab.workspace.commit("x")
    assert outcome is not None
    assert outcome.sha == lab.git("rev-parse", "main")
    assert (await lab.workspace.survey()).head == outcome.sha
    assert lab.git("log", "-1", "--format=%an") == IDENTITY.name
    assert not lab.git("log", "-1", "--format=%at").startswith("0")


async def test_every_operation_is_one_round_trip(lab: Lab):
    steps = [
        lab.workspace.head,
        lab.workspace.changes,
        lab.workspace.diff,
        lambda: lab.workspace.snapshot("s"),
        lambda: lab.workspace.commit("c"),
        lab.workspace.survey,
        lab.workspace.log,
        lambda: lab.workspace.divergence("HEAD"),
    ]
    lab.write({"new": "x"})
    for number, step in enumerate(steps, 1):
        await step()
        assert lab.runner.count == number


async def test_a_directory_that_is_no_repository_is_not_taken_for_the_one_above(lab: Lab):
    below = Workspace(lab.runner, str(lab.path / "dir"), IDENTITY)
    with pytest.raises(GitError, match="is not the top of a git repository"):
        await below.head()
    with pytest.raises(CommitError, match="dir is not the top"):
        await below.commit("x")
    shutil.rmtree(lab.path / ".git")
    with pytest.raises(GitError, match="not the top of a git repository") as caught:
        await lab.workspace.survey()
    assert caught.value.exit_code == 3


async def test_a_machine_without_git_is_told_so(lab: Lab):
    lab.runner.env["PATH"] = str(lab.home / "empty")
    lab.runner.prefix = (shutil.which("env") or "env", f"PATH={lab.home / 'empty'}")
    (lab.home / "empty").mkdir()
    (lab.home / "empty" / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    with pytest.raises(GitError, match="no git in the machine"):
        await lab.workspace.head()


async def test_a_timeout_is_an_error_of_git_with_its_cause(lab: Lab):
    async def never(request: ExecRequest) -> ExecResult:
        assert request.timeout == 5
        raise CommandTimeoutError("late", result=ExecResult(exit_code=137, stderr_bytes=b"secret", timed_out=True))

    slow = Workspace(
        never, str(lab.path), IDENTITY, timeout_seconds=5, redact=lambda text: text.replace("secret", "***")
    )
    with pytest.raises(CommitError, match="longer than 5 s") as caught:
        await slow.commit("x", auto=True)
    assert isinstance(caught.value.__cause__, CommandTimeoutError)
    assert caught.value.stderr == "***"


async def test_errors_are_redacted(lab: Lab):
    workspace = Workspace(lab.runner, str(lab.path), IDENTITY, redact=lambda text: text.replace("hunter2", "***"))
    lab.hook("pre-commit", "echo the token is hunter2; exit 1")
    lab.write({"a": "x"})
    with pytest.raises(CommitRejected) as caught:
        await workspace.commit("x")
    assert "hunter2" not in str(caught.value) + caught.value.stderr
    with pytest.raises(GitError) as failed:
        await workspace.divergence("hunter2")
    assert "hunter2" not in str(failed.value) + failed.value.stderr


def _without_root_powers() -> tuple[str, ...] | None:
    """Return a prefix under which file permissions hold, root or not; None where there is no way."""
    if os.geteuid() != 0:
        return ()
    tool = shutil.which("setpriv")
    if tool is None:
        return None
    prefix = (tool, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else None


@pytest.fixture
def powerless(lab: Lab) -> Lab:
    prefix = _without_root_powers()
    if prefix is None:
        pytest.skip("root here cannot give up reading every file (setpriv)")
    lab.runner.prefix = prefix
    return lab


async def test_an_automatic_commit_leaves_out_what_cannot_be_read(powerless: Lab):
    powerless.write({"secret": "x", "a": "unreadable now", "fine": "x"})
    for name in ("secret", "a"):
        (powerless.path / name).chmod(0)
    with pytest.raises(CommitError, match="cannot add 'a', 'secret'") as caught:
        await powerless.workspace.commit("explicit")
    assert "Permission denied" in caught.value.stderr
    assert (await powerless.workspace.snapshot("all")).skipped == ("a", "secret")
    assert (await powerless.workspace.survey()).unreadable == ("a", "secret")
    outcome = await powerless.workspace.commit("auto", auto=True)
    assert outcome is not None
    assert outcome.unreadable == ("a", "secret")
    assert outcome.changes.files == (Change("A", "fine"),)


async def test_a_name_that_git_forbids_is_left_out_and_named(lab: Lab):
    lab.write({"git~1": "a name that means .git elsewhere", "fine": "x"})
    with pytest.raises(CommitError, match="cannot add 'git~1'"):
        await lab.workspace.commit("explicit")
    outcome = await lab.workspace.commit("auto", auto=True)
    assert outcome is not None
    assert outcome.unreadable == ("git~1",)
    assert outcome.changes.files == (Change("A", "fine"),)


@pytest.mark.parametrize("auto", [True, False])
async def test_a_read_only_repository_is_an_error_and_loses_nothing(powerless: Lab, auto: bool):
    powerless.write({"new": "x"})
    objects = powerless.path / ".git/objects"
    folders = [powerless.path / ".git", objects, *(entry for entry in objects.iterdir() if entry.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert "new" in await powerless.workspace.diff()
        assert (await powerless.workspace.changes()).files == (Change("A", "new"),)
        with pytest.raises(CommitError) as caught:
            await powerless.workspace.commit("no", auto=auto)
        assert "Permission denied" in caught.value.stderr or "insufficient permission" in caught.value.stderr
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert powerless.git("status", "--porcelain") == "?? new"


_SMALL_DISK = """
cp -a "$1" "$1.saved" && mount -t tmpfs -o size=128k none "$1" && cp -a "$1.saved/." "$1" && shift && exec "$@"
"""


@pytest.mark.parametrize("auto", [True, False])
async def test_a_full_disk_is_an_error_and_no_commit_of_half_the_work(lab: Lab, auto: bool):
    objects = str(lab.path / ".git/objects")
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _SMALL_DISK, "small", objects)
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    if probe is None or probe.returncode != 0:
        pytest.skip("no private mounts here (unshare)")
    shutil.rmtree(objects + ".saved")
    head = lab.git("rev-parse", "HEAD")
    lab.write({"big": os.urandom(2_000_000), "small": "x"})
    lab.runner.prefix = prefix
    with pytest.raises(CommitError, match=r"No space left|unable to write|insert into database"):
        await lab.workspace.commit("no", auto=auto)
    assert lab.git("rev-parse", "HEAD") == head


@pytest.mark.parametrize("always", [False, True])
async def test_a_branch_that_moves_meanwhile_is_built_on_and_never_overwritten(lab: Lab, always: bool):
    lab.write({"new": "x"})
    once = "" if always else "[ -e .git/raced ] || { touch .git/raced; "
    race = f'{once}git update-ref HEAD "$(git commit-tree -p HEAD -m race "HEAD^{{tree}}")"{"" if always else "; }"}; '
    real = lab.runner

    async def racing(request: ExecRequest) -> ExecResult:
        # The machine's own git commits just before ours moves the branch.
        assert request.argv is not None
        script = request.argv[2].replace("  new=$(g commit-tree", f"  {race}new=$(g commit-tree")
        assert script != request.argv[2]
        return await real(attrs.evolve(request, argv=(*request.argv[:2], script, *request.argv[3:])))

    workspace = Workspace(racing, str(lab.path), IDENTITY)
    if always:
        with pytest.raises(CommitError):
            await workspace.commit("ours", auto=True)
        assert lab.git("log", "--format=%s") == "race\nrace\nrace\ninitial"
    else:
        assert await workspace.commit("ours", auto=True) is not None
        assert lab.git("log", "--format=%s") == "ours\nrace\ninitial"


async def test_files_that_come_and_go_meanwhile_do_no_harm(lab: Lab):
    loop = "while [ ! -e ../stop ]; do touch temp-1 temp-2; mkdir -p d; echo >d/x; rm -rf temp-1 temp-2 d; done"
    writer = subprocess.Popen(["sh", "-c", loop], cwd=lab.path)
    try:
        for number in range(15):
            lab.write({"steady": str(number)})
            outcome = await lab.workspace.commit(f"commit {number}", auto=True)
            assert outcome is not None
            assert lab.git("show", "HEAD:steady") == str(number)
            await lab.workspace.survey()
            await lab.workspace.snapshot("s")
            await lab.workspace.diff()
            await lab.workspace.changes()
    finally:
        (lab.path.parent / "stop").touch()
        writer.wait(timeout=60)


async def test_a_machine_that_uses_git_meanwhile_does_no_harm(lab: Lab):
    loop = "while [ ! -e ../stop ]; do echo >>theirs; git add theirs; git commit -qm theirs; done 2>/dev/null"
    writer = subprocess.Popen(["sh", "-c", loop], cwd=lab.path)
    patient = Workspace(lab.runner, str(lab.path), IDENTITY, lock_wait_seconds=60)
    try:
        for number in range(10):
            lab.write({f"mine{number}": "x"})
            try:
                await patient.commit(f"commit {number}", auto=True)
            except CommitError:
                continue  # three lost races in a row: an error, and nothing lost
            assert lab.git("show", f"HEAD:mine{number}") == "x"
    finally:
        (lab.path.parent / "stop").touch()
        writer.wait(timeout=60)
    (lab.path / ".git/index.lock").unlink(missing_ok=True)
    await patient.commit("the rest")
    assert {f"mine{number}" for number in range(10)} <= set(lab.git("ls-files").split())
    assert lab.git("fsck", "--no-dangling") == ""
