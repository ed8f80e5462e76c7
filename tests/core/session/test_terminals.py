"""Terminals and snapshots of a session: where they are, what is on record, what ends them. Time budget: 30 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import AsyncGitMachine, GitMachine, InvalidStateError, UnsupportedOperation
from gitmachine.errors import MachineError
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake import copies
from support.repos import make_remote


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "remote.git", commits=2)


async def read_until(terminal, wanted):
    seen = b""
    async with asyncio.timeout(60):
        while wanted not in seen:
            data = await terminal.read()
            assert data, seen
            seen += data
    return seen


async def on_record_as(gm, state):
    """Wait until the command log, which is written behind the commands' backs, has one command, in this state."""
    async with asyncio.timeout(30), await Journal.aopen(Places.default()) as journal:
        while [entry.state for entry in await journal.commands(gm.key)] != [state]:
            await asyncio.sleep(0.02)


async def test_a_terminal_starts_in_the_repository_with_the_session_s_variables(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="t", env={"ONE": "1"}) as gm:
        script = 'test -t 0 && pwd && echo "$ONE $TWO $TERM" && stty size'
        async with await gm.open_terminal(script, columns=99, rows=33, env={"TWO": "2"}) as terminal:
            shown = b"".join([data async for data in terminal]).decode().splitlines()
            assert await terminal.wait() == 0
        assert shown == [gm.path, "1 2 xterm-256color", "33 99"]
        assert terminal.command == script


async def test_a_dialogue_a_resize_and_what_is_on_record(remote):
    events = []
    session = AsyncGitMachine(
        FakeMachine(),
        repository=str(remote),
        session="t",
        on_event=lambda event, data, _gm: events.append((event, data)),
    )
    async with session as gm:
        # A signal may end a shell's read without a line.
        script = """trap 'stty size' WINCH; echo rea''dy; until [ "$line" = sec''ret ]; do read -r line; done"""
        command = ["sh", "-c", f"{script}; echo got $line; exit 5"]
        async with await gm.open_terminal(command) as terminal:
            await read_until(terminal, b"ready")
            await terminal.resize(120, 40)
            await terminal.write("one\r")
            await read_until(terminal, b"40 120")
            await terminal.write(b"secret\r")
            await read_until(terminal, b"got secret")
            assert await terminal.read() == b""
            assert await terminal.wait() == 5
            with pytest.raises(BrokenPipeError):
                await terminal.write("more")
        (entry,) = gm.logs()
        assert (entry.result.exit_code, entry.result.stdout) == (5, "")
        assert "secret" not in repr(entry)
    mine = [(event, data) for event, data in events if event.startswith("command_")]
    assert [event for event, _ in mine] == ["command_started", "command_finished"]
    assert mine[1][1]["exit_code"] == 5


async def test_without_a_command_it_is_the_machine_s_shell(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="t", env={"SHELL": "/bin/sh"}) as gm:
        async with await gm.open_terminal(env={"PS1": "ready> "}) as terminal:
            await read_until(terminal, b"ready> ")
            await terminal.write("echo it is $((6 * 7))\r")
            await read_until(terminal, b"it is 42")
            await on_record_as(gm, "running")
        await on_record_as(gm, "ended")
        (entry,) = gm.logs()
        assert entry.result.exit_code == 137  # left alone at its prompt


async def test_a_stop_ends_what_runs_on_a_terminal_and_publishes_what_it_did(remote):
    gm = AsyncGitMachine(FakeMachine(), repository=str(remote), session="t")
    await gm.start()
    terminal = await gm.open_terminal("echo work > file; echo rea''dy; exec sleep 1000")
    await read_until(terminal, b"ready")
    await terminal.kill()
    assert await terminal.wait() == 137
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    await terminal.close()
    with pytest.raises(InvalidStateError):
        await gm.open_terminal("true")


async def test_a_lost_machine_ends_its_terminals(remote):
    machine = FakeMachine()
    gm = AsyncGitMachine(machine, repository=str(remote), session="t")
    await gm.start()
    terminal = await gm.open_terminal("sleep 1000")
    await machine.die()
    async with asyncio.timeout(60):
        assert await terminal.read() == b""
        with pytest.raises(MachineError):
            await terminal.wait()
    await terminal.close()
    with pytest.raises(MachineError):
        await gm.stop()


async def test_machines_without_terminals_and_snapshots_say_so(remote):
    async with AsyncGitMachine(FakeMachine(capabilities=()), repository=str(remote), session="t") as gm:
        for call in (gm.open_terminal, gm.snapshot, gm.snapshots, lambda: gm.delete_snapshot("x")):
            with pytest.raises(UnsupportedOperation, match="fake machines cannot"):
                await call()


async def test_a_snapshot_has_the_work_and_outlives_the_machine(remote):
    async with AsyncGitMachine(FakeMachine(), repository=str(remote), session="t") as gm:
        await gm.write_file("half-done", "x")
        first, second = await gm.snapshot(), await gm.snapshot("named")
        assert second == "named"
        assert await gm.snapshots() == [first, second]
        await gm.delete_snapshot(first)
        assert await gm.snapshots() == [second]
    machine = FakeMachine(snapshot=second)
    await machine.start()
    try:
        assert "half-done" in await machine.list_files("repo")
    finally:
        await machine.stop()
        copies.delete_snapshot(second)


def test_a_blocking_terminal_is_the_same(remote):
    with GitMachine(FakeMachine(), repository=str(remote), session="t") as gm:
        with gm.open_terminal("read -r line; echo got $line; exit 3") as terminal:
            terminal.resize(100, 30)
            terminal.write("this\r")
            assert b"".join(terminal).endswith(b"got this\r\n")
            assert terminal.wait() == 3
        assert gm.logs()[-1].result.exit_code == 3
