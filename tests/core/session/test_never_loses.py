"""What a session may never do: lose work. Real git, real processes, a remote that refuses. Time budget: 30 s."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, GitOptions
from gitmachine.errors import (
    CommitRejected,
    ConfigError,
    GitError,
    MachineLostError,
    PullConflictError,
    PullDivergedError,
    PushRejectedError,
    StopRefused,
)
from gitmachine.machine import MachineState
from gitmachine.outcomes import KeptKind
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from support.machines import FilesMachine
from support.repos import add_commit, git, show, tip

Make = Callable[..., AsyncGitMachine]


def refuse_pushes(remote: Path) -> Path:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'frozen for release' >&2\nexit 1\n")
    hook.chmod(0o755)
    return hook


async def test_pause_then_stop_publishes(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo kept > kept.txt")
    await gm.pause()
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:kept.txt") == "kept"


async def test_pause_copies_the_commits_to_the_host(make: Make) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo kept > kept.txt")
    await gm.pause()
    sha = await gm.hash()
    store = next(Places.default().sessions.glob("*.git"))
    assert git("-C", store, "cat-file", "-t", str(sha)) == "commit"


async def test_on_end_that_writes_a_file_loses_nothing(make: Make, remote: Path, any_machine: FilesMachine) -> None:
    async with make(any_machine, on_end=lambda gm: gm.run("echo late > late.txt")) as gm:
        await gm.run("echo early > early.txt")
    assert show(remote, "feature:late.txt") == "late"
    assert gm.receipt is not None
    assert gm.receipt.remote_sha == tip(remote, "feature")


async def test_on_pause_that_writes_a_file_is_committed_before_the_freeze(make: Make) -> None:
    gm = make(on_pause=lambda gm: gm.run("echo late > late.txt"))
    await gm.start()
    await gm.pause()
    assert await gm.diff() == ""
    assert gm.state is MachineState.PAUSED


async def test_an_error_in_on_end_is_raised_and_the_machine_is_gone_and_the_work_published(
    make: Make, remote: Path, tmp_path: Path
) -> None:
    def on_end(_gm: AsyncGitMachine) -> None:
        raise RuntimeError("on purpose")

    gm = make(on_end=on_end)
    await gm.start()
    await gm.run("echo x > x")
    with pytest.raises(RuntimeError, match="on purpose"):
        await gm.stop()
    assert gm.state is MachineState.STOPPED
    assert show(remote, "feature:x") == "x"
    assert not list(tmp_path.glob("machine-*"))


async def test_a_rejected_push_keeps_the_machine_and_a_bundle_that_clones(
    make: Make, remote: Path, tmp_path: Path, any_machine: FilesMachine
) -> None:
    hook = refuse_pushes(remote)
    seen: list[str] = []
    gm = make(any_machine, on_event=lambda event, _data, _gm: seen.append(event))
    await gm.start()
    await gm.run("echo work > work.txt")
    with pytest.raises(PushRejectedError) as caught:
        await gm.stop()
    rescue = caught.value.rescue
    assert rescue is not None
    assert rescue.bundle is not None
    assert rescue.machine_kept
    assert rescue.bundle in str(caught.value)
    assert "frozen for release" in str(caught.value) + caught.value.stderr
    git("clone", "-q", "-b", "feature", rescue.bundle, tmp_path / "clone")
    assert (tmp_path / "clone" / "work.txt").read_text() == "work\n"
    assert "rescued" in seen
    assert "pushed" not in seen
    assert "stopped" not in seen
    # The machine still works, and once the remote accepts, stop publishes.
    assert gm.state is MachineState.RUNNING
    assert (await gm.run("cat work.txt")).stdout == "work\n"
    hook.unlink()
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:work.txt") == "work"


async def test_a_forced_stop_rescues_first(make: Make, remote: Path, tmp_path: Path) -> None:
    refuse_pushes(remote)
    gm = make()
    await gm.start()
    await gm.run("echo work > work.txt")
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert not receipt.pushed
    assert receipt.rescue is not None
    assert receipt.rescue.bundle is not None
    git("clone", "-q", "-b", "feature", receipt.rescue.bundle, tmp_path / "clone")
    assert (tmp_path / "clone" / "work.txt").read_text() == "work\n"
    assert gm.state is MachineState.STOPPED


async def test_a_diverged_remote_is_told_with_ahead_and_behind(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo mine > mine.txt")
    add_commit(remote, "feature", {"theirs.txt": b"theirs"}, start=tip(remote, "main"))
    with pytest.raises(PushRejectedError) as caught:
        await gm.stop()
    assert (caught.value.ahead, caught.value.behind) == (1, 1)
    assert gm.state is MachineState.RUNNING


async def test_the_sibling_policy_publishes_beside_a_diverged_branch(make: Make, remote: Path) -> None:
    gm = make(git=GitOptions(diverged="sibling"))
    await gm.start()
    await gm.run("echo mine > mine.txt")
    add_commit(remote, "feature", {"theirs.txt": b"theirs"}, start=tip(remote, "main"))
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.branch.startswith("feature-")
    assert show(remote, f"{receipt.branch}:mine.txt") == "mine"
    assert show(remote, "feature:theirs.txt") == "theirs"


async def test_the_rebase_policy_puts_our_commits_on_top(make: Make, remote: Path) -> None:
    gm = make(git=GitOptions(diverged="rebase"))
    await gm.start()
    await gm.run("echo mine > mine.txt")
    add_commit(remote, "feature", {"theirs.txt": b"theirs"}, start=tip(remote, "main"))
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:mine.txt") == "mine"
    assert show(remote, "feature:theirs.txt") == "theirs"


async def test_the_commits_of_a_nested_repository_are_kept_and_listed(make: Make, any_machine: FilesMachine) -> None:
    async with make(any_machine) as gm:
        await gm.run(
            "git init -q nested && cd nested && echo n > n.txt && git add . && "
            "git -c user.name=n -c user.email=n@example.org commit -qm nested && echo dirty > dirty.txt",
            check=True,
        )
        sha = (await gm.run("git -C nested rev-parse HEAD")).stdout.strip()
        await gm.run("echo outer > outer.txt")
    assert gm.receipt is not None
    assert gm.receipt.pushed
    nested = [kept for kept in gm.receipt.kept if kept.path == "nested"]
    assert sha in {kept.sha for kept in nested}
    store = next(Places.default().sessions.glob("*.git"))
    contents = {git("-C", store, "ls-tree", "--name-only", kept.sha) for kept in nested}
    assert "n.txt" in {line for text in contents for line in text.splitlines()}
    assert "dirty.txt" in {line for text in contents for line in text.splitlines()}


async def test_ignored_files_that_are_asked_for_are_kept_as_they_are_last_and_never_published(
    make: Make, remote: Path, any_machine: FilesMachine
) -> None:
    options = GitOptions(keep_ignored=("*.log", "out"))
    async with make(any_machine, git=options, on_end=lambda gm: gm.run("echo late >> deep/run.log")) as gm:
        await gm.run(
            "printf '*.log\\nout/\\n*.tmp\\n' > .gitignore && mkdir -p deep out && echo early > deep/run.log && "
            "echo report > out/report && echo scratch > x.tmp",
            check=True,
        )
    assert gm.receipt is not None
    assert gm.receipt.pushed
    assert gm.receipt.rescue is None
    assert gm.receipt.remote_sha == tip(remote, "feature")
    [kept] = gm.receipt.kept
    assert (kept.kind, kept.name) == (KeptKind.IGNORED, "ignored files")
    store = next(Places.default().sessions.glob("*.git"))
    assert git("-C", store, "rev-parse", kept.ref) == kept.sha
    assert git("-C", store, "ls-tree", "-r", "--name-only", kept.sha).split() == ["deep/run.log", "out/report"]
    assert git("-C", store, "show", f"{kept.sha}:deep/run.log") == "early\nlate"
    assert git("-C", remote, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/feature", "refs/heads/main"]


async def test_ignored_files_do_not_keep_a_stop_without_auto_commit_and_a_pause_copies_them(
    make: Make, remote: Path
) -> None:
    gm = make(git=GitOptions(keep_ignored=("*.log",)), auto_commit=False)
    await gm.start()
    await gm.run("echo '*.log' >> .git/info/exclude && echo one > run.log", check=True)
    await gm.pause()
    store = next(Places.default().sessions.glob("*.git"))
    ref = "refs/machine/gitmachine/keep/ignored"
    assert git("-C", store, "show", f"{ref}:run.log") == "one"
    await gm.resume()
    receipt = await gm.stop()
    assert receipt is not None
    assert [item.kind for item in receipt.kept] == [KeptKind.IGNORED]


async def test_other_branches_stashes_and_a_merge_in_progress_are_kept_and_listed(make: Make, remote: Path) -> None:
    who = "git -c user.name=n -c user.email=n@example.org"
    async with make() as gm:
        await gm.run(
            f"git checkout -q -b side && echo side > side.txt && git add . && {who} commit -qm side && "
            f"git checkout -q feature && echo stashed >> README.md && {who} stash -q && "
            f"echo conflict-a > c.txt && git add . && {who} commit -qm a && "
            f"git checkout -q -b other HEAD~1 && echo conflict-b > c.txt && git add . && {who} commit -qm b && "
            f"git checkout -q feature && ! {who} merge -q other >/dev/null",
            check=True,
        )
    assert gm.receipt is not None
    kinds = {kept.kind for kept in gm.receipt.kept}
    assert {KeptKind.BRANCH, KeptKind.STASH, KeptKind.CHANGES} <= kinds
    assert {"side", "other"} <= {re.sub("^refs/heads/", "", kept.name) for kept in gm.receipt.kept}
    assert show(remote, "feature:c.txt") == "conflict-a"


async def test_an_agents_broken_pre_commit_hook_does_not_lose_its_work(make: Make, remote: Path) -> None:
    async with make() as gm:
        await gm.run(
            "printf '#!/bin/sh\\necho nope >&2; exit 1\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; "
            "echo x > x",
            check=True,
        )
        with pytest.raises(CommitRejected, match="nope"):
            await gm.commit("explicit")
    assert show(remote, "feature:x") == "x"


async def test_without_auto_commit_stop_refuses_and_lists_the_work(make: Make, remote: Path, tmp_path: Path) -> None:
    gm = make(auto_commit=False)
    await gm.start()
    await gm.run("echo x > x")
    with pytest.raises(StopRefused) as caught:
        await gm.stop()
    assert caught.value.unpublished
    assert gm.state is MachineState.RUNNING
    await gm.commit("by hand")
    with pytest.raises(StopRefused):
        await gm.stop()
    await gm.push()
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:x") == "x"


async def test_without_auto_commit_a_forced_stop_rescues_uncommitted_changes(make: Make, tmp_path: Path) -> None:
    gm = make(auto_commit=False)
    await gm.start()
    await gm.run("echo x > x")
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert receipt.rescue is not None
    assert receipt.rescue.bundle is not None
    changes = [kept for kept in receipt.kept if kept.kind is KeptKind.CHANGES]
    store = Path(receipt.rescue.repository)
    assert git("-C", store, "show", f"{changes[0].sha}:x") == "x"


async def test_all_git_verbs_work_while_paused_without_hooks_or_events(make: Make, remote: Path) -> None:
    seen: list[str] = []
    gm = make(
        on_event=lambda event, _data, _gm: seen.append(event),
        on_pause=lambda _gm: seen.append("on_pause"),
        on_resume=lambda _gm: seen.append("on_resume"),
        auto_commit=False,
    )
    await gm.start()
    await gm.run("echo x > x.txt")
    await gm.pause()
    seen.clear()
    assert "x.txt" in await gm.diff()
    sha = await gm.commit("while paused")
    pushed = await gm.push()
    assert await gm.pull() == sha
    assert await gm.hash() == sha == pushed.remote_sha == tip(remote, "feature")
    assert gm.state is MachineState.PAUSED
    assert seen == ["committed", "pushed", "pulled"]


async def test_pull_brings_the_remotes_commits_in(make: Make, remote: Path) -> None:
    async with make() as gm:
        await gm.run("echo x > x")
        await gm.commit()
        await gm.push()
        theirs = add_commit(remote, "feature", {"theirs.txt": b"theirs"})
        assert await gm.pull() == theirs
        assert await gm.read_text("theirs.txt") == "theirs"


async def test_a_pull_with_conflicts_leaves_the_tree_as_it_was(make: Make, remote: Path) -> None:
    gm = make(git=GitOptions(pull="merge", diverged="sibling"))
    async with gm:
        await gm.run("echo mine > same.txt")
        sha = await gm.commit()
        add_commit(remote, "feature", {"same.txt": b"theirs"}, start=tip(remote, "main"))
        with pytest.raises(PullConflictError) as caught:
            await gm.pull()
        assert caught.value.files == ("same.txt",)
        assert await gm.hash() == sha
        assert await gm.read_text("same.txt") == "mine\n"


async def test_a_pull_follows_the_policy_it_is_given(make: Make, remote: Path) -> None:
    async with make() as gm:
        await gm.run("echo mine > mine")
        await gm.commit()
        theirs = add_commit(remote, "feature", {"theirs": b"theirs"}, start=tip(remote, "main"))
        with pytest.raises(PullDivergedError):
            await gm.pull()
        with pytest.raises(ConfigError, match=r"expected one of ff, rebase, merge, not 'force' @ policy"):
            await gm.pull("force")
        head = await gm.pull("rebase")
        assert (await gm.run("git rev-parse HEAD~1")).stdout.strip() == theirs
    assert tip(remote, "feature") == head


async def test_a_machine_that_died_is_reported_with_what_the_host_has(make: Make, remote: Path, machine: Any) -> None:
    seen: list[str] = []
    gm = make(on_event=lambda event, _data, _gm: seen.append(event))
    await gm.start()
    await gm.run("echo x > x")
    await gm.pause()
    await gm.resume()
    machine.dead = True
    with pytest.raises(MachineLostError) as caught:
        await gm.stop()
    assert any("feature" in note for note in caught.value.__notes__)
    assert "lost" in seen
    assert "rescued" in seen
    async with Journal.open(Places.default()) as journal:
        assert [record.state for record in await journal.machines(include_ended=True)] == ["lost"]


async def test_commands_that_run_are_ended_by_stop_and_their_files_published(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    running = asyncio.create_task(gm.run("echo half > half.txt; echo ready; sleep 600"))
    async with asyncio.timeout(30):
        while not (Path(gm.path) / "half.txt").exists():
            await asyncio.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gitmachine.steps.stopping.GRACE_SECONDS", 0.2)
        receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    with pytest.raises(Exception, match="stopping"):
        await running
    assert show(remote, "feature:half.txt") == "half"


async def test_the_journal_forgets_the_machine_once_it_is_stopped(make: Make) -> None:
    async with make(name="mine") as gm:
        await gm.run("true")
        async with Journal.open(Places.default()) as journal:
            record = await journal.machine("mine")
            assert (record.state, record.machine_id, record.session) == ("running", gm.id, "feature")
    async with Journal.open(Places.default()) as journal:
        assert await journal.machines() == []
        assert len(await journal.commands(gm.key)) == 1


async def test_a_repository_that_was_deleted_in_the_machine_keeps_it_until_forced(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo x > x.txt")
    await gm.commit()
    await gm.pause()
    await gm.resume()
    await gm.run("rm -rf .git")
    with pytest.raises(GitError) as caught:
        await gm.stop()
    assert any("kept" in note for note in caught.value.__notes__)
    assert gm.state is MachineState.RUNNING
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert not receipt.pushed
    assert receipt.rescue is not None
    assert receipt.rescue.bundle is not None
    assert [kept.name for kept in receipt.kept] == ["feature"]


async def test_a_remote_that_only_moved_on_has_all_of_the_work(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    await gm.run("echo x > x.txt")
    await gm.commit()
    await gm.push()
    theirs = add_commit(remote, "feature", {"theirs.txt": b"theirs"})
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert receipt.remote_sha == theirs != receipt.local_sha
    assert receipt.rescue is None
    assert gm.state is MachineState.STOPPED
