"""Pauses: real ones, seen from every side. Time budget: 30 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import ExecRequest, InvalidStateError, MachineError, MachineState
from gitmachine.execution import TerminalSize
from gitmachine_e2b import E2BMachine, _link
from providers.e2b.conftest import config_for, eventually, sh


def count(emulator, path):
    return sum(1 for record in emulator.requests if record.path.endswith(path))


async def test_output_that_is_under_way_when_the_machine_is_paused_is_not_lost(machine):
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo x > done; sleep 0.5; echo end"
    seen = []
    running = asyncio.ensure_future(sh(machine, script, on_stdout=seen.append))
    await eventually(lambda: seen, "output arrives")
    for _ in range(3):
        await machine.pause()
        await machine.resume()
    result = await running
    assert result.stdout == "".join(f"line {n}\n" for n in range(3000)) + "end\n"


async def test_many_commands_of_every_kind_survive_a_pause(machine):
    async def dialogue():
        process = await machine.spawn(ExecRequest(shell="read a; read b; echo $a$b; exit 4", open_stdin=True))
        await process.stdin.write(b"one\n")
        return process

    plain = [asyncio.ensure_future(sh(machine, f"until [ -e go ]; do sleep 0.05; done; echo {n}")) for n in range(5)]
    talking = await dialogue()
    screen = await machine.spawn(
        ExecRequest(shell="echo first; until [ -e go ]; do sleep 0.05; done; echo last", terminal=TerminalSize())
    )
    await anext(screen.stdout)
    quiet = await machine.spawn(ExecRequest(shell="sleep 600"))
    await machine.pause()
    await machine.resume()
    await machine.write_file("go", b"")
    assert sorted([(await one).stdout for one in plain]) == [f"{n}\n" for n in range(5)]
    await talking.stdin.write(b"two\n")
    assert b"".join([piece async for piece in talking.stdout]) == b"onetwo\n"
    assert await talking.wait() == 4
    assert b"".join([piece async for piece in screen.stdout]) == b"last\r\n"
    assert await screen.wait() == 0
    await quiet.kill()
    assert await quiet.wait() == 137


async def test_a_process_that_nobody_reads_does_not_stop_a_pause(machine):
    process = await machine.spawn(ExecRequest(shell="while :; do echo noise; done"))
    await asyncio.sleep(0.3)
    await machine.pause()
    await machine.resume()
    await process.kill()
    assert await process.wait() == 137
    assert (await sh(machine, "echo fine")).stdout == "fine\n"


async def test_asking_for_a_paused_sandbox_does_not_wake_it(emulator):
    config = config_for(emulator, auto_resume=True, auto_pause=True)
    machine = E2BMachine(config)
    await machine.start()
    try:
        await machine.pause()
        emulator.requests.clear()
        assert not await machine.is_running()
        assert (await machine.get_info()).state == "paused"
        taken_over = await E2BMachine.connect(machine.id, config)
        assert taken_over.state is MachineState.PAUSED
        assert not await taken_over.is_running()
        await taken_over.close()
        assert {record.surface for record in emulator.requests} == {"api"}
        assert {record.method for record in emulator.requests} == {"GET"}
        assert (await machine.get_info()).state == "paused"
    finally:
        await machine.stop()


async def test_another_client_resumes_what_was_paused_and_lets_its_processes_go_on(emulator, machine):
    await machine.spawn(ExecRequest(shell="while :; do echo x >> beat; sleep 0.05; done"))
    await eventually(lambda: machine.exists("beat"), "it beats")
    await machine.pause()
    await machine.close()
    other = await E2BMachine.connect(machine.id, config_for(emulator))
    assert other.state is MachineState.PAUSED
    await other.resume()
    assert other.state is MachineState.RUNNING
    assert other.workdir == "/home/user"
    before = len(await other.read_file("beat"))

    async def grows():
        return len(await other.read_file("beat")) > before

    await eventually(grows, "it goes on beating")
    await other.close()


async def test_a_pause_that_is_refused_leaves_everything_going_on(emulator, machine):
    running = asyncio.ensure_future(sh(machine, "echo before; until [ -e go ]; do sleep 0.05; done; echo after"))
    await eventually(lambda: any(p.following for p in machine._link().processes), "the command runs")
    emulator.faults.add("status", path="/pause$", status=500, body="no room")
    with pytest.raises(MachineError, match="no room"):
        await machine.pause()
    assert machine.state is MachineState.RUNNING
    await machine.write_file("go", b"")
    assert (await running).stdout == "before\nafter\n"


async def test_a_sandbox_that_somebody_else_paused_is_told_and_can_be_resumed(emulator, machine):
    running = asyncio.ensure_future(sh(machine, "sleep 600"))
    await eventually(lambda: any(p.following for p in machine._link().processes), "the command runs")
    await machine._link().api.pause(machine.id)
    with pytest.raises(InvalidStateError, match="paused"):
        await running
    assert machine.state is MachineState.PAUSED
    with pytest.raises(InvalidStateError, match="resume"):
        await sh(machine, "true")
    await machine.resume()
    assert (await sh(machine, "echo on")).stdout == "on\n"


async def test_a_command_that_cannot_be_read_to_its_end_is_given_up_not_cut_silently(monkeypatch, emulator, machine):
    monkeypatch.setattr(_link, "SYNC", ":")  # its notice never comes
    monkeypatch.setattr(_link, "SYNC_SECONDS", 0.5)
    running = asyncio.ensure_future(sh(machine, "sleep 600"))
    await eventually(lambda: any(p.following for p in machine._link().processes), "the command runs")
    await machine.pause()
    with pytest.raises(MachineError, match="before the pause"):
        await running
    await machine.resume()
    assert (await sh(machine, "echo on")).stdout == "on\n"


async def test_a_pause_without_commands_asks_no_more_than_needed(emulator, machine):
    emulator.requests.clear()
    await machine.pause()
    assert [record.path for record in emulator.requests] == [f"/sandboxes/{machine.id}/pause"]
    emulator.requests.clear()
    await machine.resume()
    assert [record.path for record in emulator.requests] == [
        f"/sandboxes/{machine.id}/connect",
        "/process.Process/Start",
    ]
