"""A session from start to stop, over real git and real processes. Time budget: 20 s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, GitIdentity, GitOptions
from gitmachine.errors import (
    CheckoutError,
    CloneError,
    CommandFailedError,
    ConfigError,
    InvalidStateError,
    StateError,
    UnsupportedOperation,
)
from gitmachine.machine import MachineState
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from support.machines import FilesMachine
from support.repos import EXECUTABLE, NON_ASCII, SYMLINK, add_commit, git, make_empty_remote, show, tip

Make = Callable[..., AsyncGitMachine]


async def test_a_command_works_and_its_work_arrives_as_a_pushed_commit(
    make: Make, any_machine: FilesMachine, remote: Path
) -> None:
    async with make(any_machine, identity=GitIdentity("Ada", "ada@example.org")) as gm:
        result = await gm.run("echo hi > new.txt; cat README.md; exit 7")
        assert (result.exit_code, result.stdout) == (7, "# Sample\n")
    receipt = gm.receipt
    assert receipt is not None
    assert show(remote, "feature:new.txt") == "hi"
    assert receipt.local_sha == receipt.remote_sha == tip(remote, "feature")
    assert receipt.pushed
    assert receipt.kept == ()
    assert (
        git("-C", remote, "log", "-1", "--format=%an <%ae>|%s", "feature") == "Ada <ada@example.org>|auto: checkpoint"
    )
    assert gm.state is MachineState.STOPPED
    assert not Path(gm.path).exists()


async def test_the_checkout_has_modes_symlinks_and_names_as_committed(make: Make, any_machine: FilesMachine) -> None:
    async with make(any_machine) as gm:
        repo = Path(gm.path)
        assert (repo / EXECUTABLE).stat().st_mode & 0o111
        assert (repo / SYMLINK).is_symlink()
        assert (repo / NON_ASCII).read_text() == "grüße\n"
        assert await gm.diff() == ""


async def test_the_next_run_on_a_session_starts_from_its_last_commit(make: Make, remote: Path, tmp_path: Path) -> None:
    async with make() as gm:
        await gm.run("echo one > work.txt")
    first = tip(remote, "feature")
    async with make(FilesMachine(tmp_path)) as gm:
        assert await gm.hash() == first
        await gm.run("echo two >> work.txt")
    assert show(remote, "feature:work.txt") == "one\ntwo"
    assert git("-C", remote, "rev-parse", "feature^") == first


async def test_the_events_come_in_order(make: Make) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    gm = make(
        on_event=lambda event, data, _gm: seen.append((event, data)),
        on_start=lambda gm: gm.run("true"),
        on_end=lambda gm: gm.run("echo bye > bye.txt"),
    )
    await gm.start()
    await gm.run("echo x > x.txt")
    await gm.pause()
    await gm.resume()
    await gm.stop()
    names = [name for name, _ in seen]
    command = ["command_started", "command_finished"]
    assert names == [
        "cloned",
        "started",
        *command,
        *command,
        "committed",
        "paused",
        "resumed",
        "pushed",
        "stopping",
        *command,
        "committed",
        "pushed",
        "stopped",
    ]
    started = dict(seen)["started"]
    assert started == {"session": "feature", "repo_path": gm.path}


async def test_start_while_running_and_stop_when_stopped_do_nothing(make: Make) -> None:
    gm = make()
    assert await gm.stop() is None
    await gm.start()
    first = gm.id
    await gm.start()
    assert gm.id == first
    await gm.resume()
    receipt = await gm.stop()
    assert await gm.stop() == receipt


async def test_start_after_stop_makes_a_new_machine_on_the_same_session(make: Make, remote: Path) -> None:
    gm = make()
    await gm.start()
    first = gm.id
    await gm.run("echo a > a")
    await gm.stop()
    await gm.start()
    assert gm.id not in {first, None}
    assert (await gm.run("cat a")).stdout == "a\n"
    await gm.stop()
    assert show(remote, "feature:a") == "a"


async def test_an_operation_in_the_wrong_state_names_the_state_and_what_to_call(make: Make) -> None:
    gm = make()
    with pytest.raises(InvalidStateError, match=r"machine is idle: call start\(\) first"):
        await gm.run("true")
    await gm.start()
    await gm.pause()
    with pytest.raises(InvalidStateError, match=r"machine is paused: call resume\(\) first"):
        await gm.run("true")
    await gm.stop()
    with pytest.raises(InvalidStateError, match=r"machine is stopped: call start\(\) first"):
        await gm.run("true")


async def test_a_machine_that_cannot_pause_says_so_before_anything_is_committed(make: Make, tmp_path: Path) -> None:
    async with make(FilesMachine(tmp_path)) as gm:
        before = await gm.hash()
        await gm.run("echo x > x")
        with pytest.raises(UnsupportedOperation, match="pause"):
            await gm.pause()
        assert await gm.hash() == before


async def test_an_empty_repository_gets_its_first_commit(make: Make, any_machine: FilesMachine, tmp_path: Path) -> None:
    empty = make_empty_remote(tmp_path / "empty.git", branch="trunk")
    async with make(any_machine, repository=str(empty), session="trunk") as gm:
        assert await gm.hash() is None
        await gm.run("echo first > f")
    assert show(empty, "trunk:f") == "first"


async def test_without_a_session_the_work_goes_to_a_fresh_branch(make: Make, remote: Path) -> None:
    before = tip(remote, "main")
    async with make(session=None) as gm:
        await gm.run("echo x > x")
    assert gm.session.startswith("gitmachine/")
    assert show(remote, f"{gm.session}:x") == "x"
    assert tip(remote, "main") == before


async def test_an_unnamed_session_without_work_leaves_no_branch(make: Make, remote: Path) -> None:
    async with make(session=None) as gm:
        await gm.run("true")
    assert gm.receipt is not None
    assert not gm.receipt.pushed
    assert git("-C", remote, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


async def test_the_default_branch_is_detected(make: Make, tmp_path: Path) -> None:
    remote = make_empty_remote(tmp_path / "trunk.git", branch="trunk")
    add_commit(remote, "other", {"o": b"o"})
    start = add_commit(remote, "trunk", {"t": b"t"})
    async with make(repository=str(remote), session="new") as gm:
        assert await gm.hash() == start


async def test_a_base_can_be_named(make: Make, remote: Path) -> None:
    main = tip(remote, "main")
    other = add_commit(remote, "other", {"o": b"o"}, start=main)
    async with make(git=GitOptions(base="other")) as gm:
        assert await gm.hash() == other


async def test_a_session_named_like_a_file_makes_a_branch(make: Make, remote: Path) -> None:
    async with make(session="README.md") as gm:
        await gm.run("echo x > x")
    assert show(remote, "refs/heads/README.md:x") == "x"


async def test_a_repository_that_does_not_exist_is_one_error_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    gm = make(repository=str(tmp_path / "nowhere.git"))
    with pytest.raises(CloneError, match=r"nowhere\.git"):
        await gm.start()
    assert gm.state is MachineState.IDLE
    with Journal.open(Places.default()) as journal:
        assert await journal.machines() == []
    assert not list(tmp_path.glob("machine-*"))


async def test_a_clash_of_branch_names_is_refused_before_the_machine_starts(make: Make, remote: Path) -> None:
    add_commit(remote, "agent", {"a": b"a"})
    gm = make(session="agent/x")
    with pytest.raises(CheckoutError, match="'agent'"):
        await gm.start()
    assert gm.id is None


async def test_every_problem_of_the_arguments_is_told_at_once(machine: FilesMachine) -> None:
    with pytest.raises(ConfigError) as caught:
        AsyncGitMachine(machine, repository="ext::sh -c id", session="-x", env={"": "v"}, path="relative")
    assert len(caught.value.problems) == 4


async def test_a_second_machine_for_one_session_is_refused_naming_the_first(make: Make, tmp_path: Path) -> None:
    first = make(name="first")
    await first.start()
    second = make(FilesMachine(tmp_path))
    with pytest.raises(StateError, match="first"):
        await second.start()
    assert second.id is None
    await first.stop()
    await second.start()
    await second.stop()


async def test_on_start_that_raises_releases_the_machine_and_keeps_what_it_did(make: Make, tmp_path: Path) -> None:
    async def on_start(gm: AsyncGitMachine) -> None:
        await gm.run("echo precious > p.txt")
        await gm.commit("precious")
        raise RuntimeError("on purpose")

    gm = make(on_start=on_start)
    with pytest.raises(RuntimeError, match="on purpose") as caught:
        await gm.start()
    assert gm.state in {MachineState.STOPPED, MachineState.IDLE}
    assert not list(tmp_path.glob("machine-*"))
    bundles = list(Places.default().bundles.rglob("*.bundle"))
    assert bundles
    clone = tmp_path / "clone"
    git("clone", "-q", "-b", "feature", bundles[0], clone)
    assert (clone / "p.txt").read_text() == "precious\n"
    assert any("safe in" in note for note in caught.value.__notes__)


async def test_check_raises_with_the_result(make: Make) -> None:
    async with make() as gm:
        with pytest.raises(CommandFailedError, match="exited with 3") as caught:
            await gm.run("echo out; exit 3", check=True)
        assert caught.value.result.stdout == "out\n"


async def test_env_of_the_session_of_update_and_of_the_call_add_up(make: Make) -> None:
    async with make(env={"A": "1", "B": "1"}) as gm:
        updated: list[str] = []
        await gm.update({"B": "2", "C": "2"}, on_update=lambda gm: updated.append(gm.session))
        assert (await gm.run('echo "$A$B$C"', env={"C": "3"})).stdout == "123\n"
        assert (await gm.run('echo "$A$B$C"')).stdout == "122\n"
        assert updated == ["feature"]


async def test_logs_are_a_copy_of_the_history(make: Make) -> None:
    codes: list[int] = []
    async with make() as gm:
        await gm.run(["echo", "a b"], on_exit=codes.append)
        await gm.run("exit 2", on_exit=codes.append)
        log = gm.logs()
        log.clear()
        assert [(e.command, e.result.exit_code) for e in gm.logs()] == [("echo 'a b'", 0), ("exit 2", 2)]
        assert codes == [0, 2]


async def test_files_are_relative_to_the_repository(make: Make, any_machine: FilesMachine) -> None:
    async with make(any_machine) as gm:
        await gm.write_file("deep/er/file.bin", b"\x00\xff")
        assert await gm.read_file("deep/er/file.bin") == b"\x00\xff"
        assert (await gm.run("od -An -tx1 deep/er/file.bin")).stdout.split() == ["00", "ff"]
        assert await gm.list_files("deep") == ["er"]
        assert await gm.read_text("README.md") == "# Sample\n"
        with pytest.raises(FileNotFoundError):
            await gm.read_file("missing")


async def test_the_repository_path_is_configurable(make: Make, tmp_path: Path) -> None:
    where = str(tmp_path / "else where")
    async with make(path=where) as gm:
        assert gm.path == where
        assert (await gm.run("pwd")).stdout == f"{where}\n"


async def test_where_head_dangles_the_only_branch_is_the_start(make: Make, remote: Path) -> None:
    git("-C", remote, "symbolic-ref", "HEAD", "refs/heads/nowhere")
    async with make() as gm:
        assert await gm.hash() == tip(remote, "main")


async def test_where_head_dangles_and_there_are_several_branches_the_start_must_be_named(
    make: Make, remote: Path, tmp_path: Path
) -> None:
    add_commit(remote, "other", {"o": b"o"}, start=tip(remote, "main"))
    git("-C", remote, "symbolic-ref", "HEAD", "refs/heads/nowhere")
    with pytest.raises(CloneError, match=r"git\.base \(main, other\)"):
        await make().start()
    async with make(FilesMachine(tmp_path), git=GitOptions(base="main")) as gm:
        assert await gm.hash() == tip(remote, "main")
