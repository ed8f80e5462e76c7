"""Ending the running commands of a machine.

Time budget: 20 s.
"""

from __future__ import annotations

import asyncio

import pytest

from gitmachine.errors import InvalidStateError
from gitmachine.execution import ExecRequest


async def test_commands_that_end_by_themselves_are_given_the_grace(machine, running):
    task = await running(machine, "sleep 0.2; echo done")
    async with asyncio.timeout(60):
        assert await machine.end_commands(60) == 0
    assert (await task).stdout == "go\ndone\n"


async def test_commands_that_do_not_end_are_killed_with_a_typed_error(machine, running):
    tasks = [await running(machine, "sleep 3600") for _ in range(3)]
    with machine.gate.closed("the machine is stopping"):
        async with asyncio.timeout(60):
            assert await machine.end_commands(0.05) == 3
    for task in tasks:
        assert task.done()
        with pytest.raises(InvalidStateError, match="the command was ended because the machine is stopping"):
            await task
    assert (await machine.execute(ExecRequest(shell="echo usable"))).stdout == "usable\n"


async def test_commands_of_whoever_holds_a_permit_are_spared(machine, running):
    with machine.gate.closed("the machine is stopping"):
        with machine.gate.permit():
            spared = await running(machine, "cat >/dev/null; echo whole", stdin=b"x")
            mine = await machine.spawn(ExecRequest(shell="cat", open_stdin=True))
        async with asyncio.timeout(60):
            assert await machine.end_commands(0) == 0
    assert (await spared).stdout == "go\nwhole\n"
    await mine.stdin.close()
    assert await mine.wait() == 0


async def test_spawned_processes_are_ended_too(machine):
    process = await machine.spawn(ExecRequest(shell="sleep 3600"))
    async with asyncio.timeout(60):
        assert await machine.end_commands(0.05) == 1
        assert await process.wait() == 137
        assert await machine.end_commands(60) == 0


async def test_a_paused_machine_is_given_no_grace(machine, running):
    task = await running(machine, "sleep 0.1")
    await machine.pause()
    async with asyncio.timeout(60):
        assert await machine.end_commands(3600) == 1
    with pytest.raises(InvalidStateError):
        await task


async def test_ending_nothing_is_quick(machine):
    async with asyncio.timeout(30):
        assert await machine.end_commands(3600) == 0


async def test_a_spawned_process_that_nobody_holds_any_more_is_forgotten(machine, inner):
    for _ in range(3):
        process = await machine.spawn(ExecRequest(shell="true"))
        await process.wait()
    inner.live[:] = [await _ended(process) for process in inner.live][:0]
    del process
    held = await machine.spawn(ExecRequest(shell="true"))
    assert len(machine._commands._spawned) == 1
    await held.wait()


async def _ended(process):
    await process.end()
    return process
