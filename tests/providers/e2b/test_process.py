"""Live commands: what is read late, what is killed early, what is left behind. Time budget: 30 s."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from gitmachine import ExecRequest, MachineError, MachineUnreachableError
from gitmachine.execution import TerminalSize
from gitmachine_e2b import E2BMachine
from gitmachine_e2b._pipes import HELD_BYTES, OutputPipe
from providers.e2b.conftest import config_for, eventually, sh


async def read(stream):
    return b"".join([piece async for piece in stream])


async def test_a_pipe_holds_its_writer_up_until_somebody_reads():
    pipe = OutputPipe()
    writing = asyncio.ensure_future(pipe.put(bytes(HELD_BYTES + 1)))
    await asyncio.sleep(0)
    assert not writing.done()
    assert len(await anext(pipe)) == HELD_BYTES + 1
    await writing
    pipe.end()
    assert await read(pipe) == b""


async def test_a_pipe_that_is_opened_up_takes_everything():
    pipe = OutputPipe()
    writing = asyncio.ensure_future(pipe.put(bytes(HELD_BYTES + 1)))
    await asyncio.sleep(0)
    pipe.open_up()
    await writing
    await pipe.put(bytes(HELD_BYTES))
    pipe.end()
    assert len(await read(pipe)) == 2 * HELD_BYTES + 1


async def test_an_error_comes_after_what_was_before_it_and_once():
    pipe = OutputPipe()
    await pipe.put(b"before")
    pipe.end(MachineError("cut"))
    await pipe.put(b"after")
    assert await anext(pipe) == b"before"
    with pytest.raises(MachineError):
        await anext(pipe)
    assert await read(pipe) == b""


async def test_a_process_that_is_killed_at_once_is_gone(machine):
    for _ in range(5):
        process = await machine.spawn(ExecRequest(shell="sleep 600 & sleep 600"))
        await process.kill()
        assert await process.wait() == 137
    left = await sh(machine, "ps axo args | grep -c '^slee[p] 600'")
    assert left.stdout == "0\n"


async def test_a_spawn_that_is_cancelled_leaves_nothing_running(emulator, machine):
    emulator.faults.add("delay", path="Start", seconds=0.2, each=True)
    task = asyncio.ensure_future(machine.spawn(ExecRequest(shell="echo x > ran; sleep 600")))
    await eventually(lambda: emulator.requests[-1].path.endswith("Start"), "it was asked")
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    emulator.faults.clear()

    async def ended():
        return (await sh(machine, "ps axo args | grep -c '^slee[p] 600'")).stdout == "0\n"

    await eventually(ended, "it is ended")


async def test_a_command_that_kills_its_wrapper_is_over(machine):
    result = await sh(machine, "echo out; kill -9 $PPID; sleep 0.3; echo late")
    assert result.exit_code == 137
    assert result.stdout.startswith("out\n")
    assert (await sh(machine, "echo fine")).stdout == "fine\n"


async def test_output_that_was_left_non_blocking_still_has_its_end(machine):
    script = "import os,sys; os.set_blocking(1, False); os.set_blocking(2, False); os.write(1, b'x' * 1000)"
    result = await machine.execute(ExecRequest(argv=["python3", "-c", script]))
    assert (result.exit_code, len(result.stdout_bytes)) == (0, 1000)


async def test_input_arrives_in_order_and_its_end_is_seen(machine):
    process = await machine.spawn(ExecRequest(argv=["sha256sum"], open_stdin=True))
    for number in range(20):
        await process.stdin.write(bytes([number]) * 30_000)
    await process.stdin.close()
    await process.stdin.close()
    with pytest.raises(BrokenPipeError):
        await process.stdin.write(b"more")
    wanted = hashlib.sha256(b"".join(bytes([number]) * 30_000 for number in range(20))).hexdigest()
    assert (await read(process.stdout)).decode().split()[0] == wanted
    assert await process.wait() == 0


async def test_input_for_nobody_is_a_broken_pipe(machine):
    process = await machine.spawn(ExecRequest(argv=["sleep", "1"], open_stdin=True))

    async def fill():
        while True:
            await process.stdin.write(bytes(200_000))

    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(fill(), 60)
    assert await process.wait() == 0
    plain = await machine.spawn(ExecRequest(argv=["true"]))
    with pytest.raises(BrokenPipeError):
        _ = plain.stdin
    assert await plain.wait() == 0


async def test_a_terminal_takes_what_is_typed(machine):
    process = await machine.spawn(ExecRequest(shell="read a; echo got $a", terminal=TerminalSize()))
    await process.stdin.write(b"x y\n")
    await process.stdin.close()
    assert (await read(process.stdout)).endswith(b"got x y\r\n")
    assert await read(process.stderr) == b""
    assert await process.wait() == 0


async def test_closing_tells_who_still_waits_and_leaves_the_command(emulator, machine):
    other = await E2BMachine.connect(machine.id, config_for(emulator))
    process = await other.spawn(ExecRequest(shell="until [ -e go ]; do sleep 0.05; done; echo x > done"))
    waiting = asyncio.ensure_future(process.wait())
    await other.close()
    with pytest.raises(MachineUnreachableError, match="let go"):
        await waiting
    await machine.write_file("go", b"")
    await eventually(lambda: machine.exists("done"), "the command goes on")


async def test_streams_of_finished_commands_are_forgotten(machine):
    for _ in range(10):
        await sh(machine, "true")
    await eventually(lambda: not any(p.following for p in machine._link().processes), "their streams end")
    await sh(machine, "true")
    assert len(machine._link().processes) == 1
