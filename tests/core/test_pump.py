"""Driving live processes: real ones, and a scripted one for what a real one cannot be made to do on cue.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from gitmachine import pump
from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import CommandTimeoutError, MachineLostError
from gitmachine.execution import ExecRequest, Process, run_process
from support.machines import StreamMachine

FOREVER = 3600.0


@pytest.fixture
async def machine(tmp_path):
    made = StreamMachine(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def until(condition, seconds=30.0):
    """Wait until a condition holds, polling, at most so long."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Scripted(Process):
    """A process that does what the test says; `ended` is its end."""

    def __init__(self, *, stdout=(), enforces=False):
        self.ended = asyncio.Event()
        self.kills = 0
        self.written = bytearray()
        self.closed = False
        self.enforces_timeout = enforces
        self._stdout = stdout

    id = "1"

    @property
    def stdin(self):
        return self

    async def write(self, data: bytes) -> None:
        self.written += data

    async def close(self) -> None:
        self.closed = True

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        return self._pieces(self._stdout)

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        return self._pieces(())

    async def _pieces(self, pieces) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        await self.ended.wait()

    async def wait(self) -> int:
        await self.ended.wait()
        return 137 if self.kills else 0

    async def kill(self) -> None:
        self.kills += 1
        self.ended.set()


async def test_both_streams_and_the_exit_code_are_exact(machine):
    result = await machine.execute(ExecRequest(shell=r"printf 'a\0b\377'; printf 'e\n' >&2; exit 7"))
    assert result.stdout_bytes == b"a\0b\xff"
    assert result.stderr_bytes == b"e\n"
    assert result.exit_code == 7
    assert not result.truncated
    assert not result.timed_out


async def test_input_is_fed_while_output_is_read(machine):
    data = os.urandom(3 * 1024 * 1024)
    result = await machine.execute(ExecRequest(argv=["cat"], stdin=data))
    assert result.stdout_bytes == data


async def test_input_can_be_an_async_iterable_and_is_closed_after_use(machine):
    closed = []

    async def source():
        try:
            for number in range(5):
                yield b"%d\n" % number
        finally:
            closed.append(True)

    result = await machine.execute(ExecRequest(argv=["cat"], stdin=source()))
    assert result.stdout == "0\n1\n2\n3\n4\n"
    assert closed == [True]


async def test_input_that_nobody_reads_is_no_error(machine):
    closed = []

    async def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.append(True)

    result = await machine.execute(ExecRequest(shell="exit 3", stdin=endless()))
    assert result.exit_code == 3
    assert closed == [True]


async def test_input_that_fails_kills_the_command_and_comes_through(machine):
    async def broken():
        yield b"first"
        raise LookupError("the source is gone")

    with pytest.raises(LookupError, match="the source is gone"):
        await machine.execute(ExecRequest(shell="cat; sleep 3600", stdin=broken()))
    assert not alive(int(machine.live[0].id))


async def test_output_beyond_the_limit_loses_its_middle(machine):
    script = "printf head; head -c 3000000 /dev/zero; printf tail"
    result = await machine.execute(ExecRequest(shell=script, max_output_bytes=100))
    assert result.truncated
    assert len(result.stdout_bytes) == 100
    assert result.stdout_bytes.startswith(b"head\0")
    assert result.stdout_bytes.endswith(b"\0tail")


async def test_callbacks_see_output_as_it_arrives(machine):
    arrived = asyncio.Event()
    task = asyncio.ensure_future(
        machine.execute(ExecRequest(shell="echo now; exec sleep 3600", on_stdout=lambda _text: arrived.set()))
    )
    async with asyncio.timeout(30):
        await arrived.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_callbacks_see_everything_that_the_result_leaves_out(machine):
    sizes = {"text": 0, "bytes": 0}

    def on_text(text):
        sizes["text"] += len(text)

    async def on_bytes(data):
        sizes["bytes"] += len(data)

    request = ExecRequest(
        shell="head -c 2000000 /dev/zero", on_stdout=on_text, on_stdout_bytes=on_bytes, max_output_bytes=10
    )
    result = await machine.execute(request)
    assert len(result.stdout_bytes) == 10
    assert sizes == {"text": 2000000, "bytes": 2000000}


@pytest.mark.parametrize("name", ["on_stdout", "on_stderr", "on_stdout_bytes", "on_stderr_bytes"])
async def test_a_callback_that_raises_kills_the_command_and_comes_through(machine, name):
    def broken(_data):
        raise LookupError("no")

    request = ExecRequest(shell="echo out; echo err >&2; sleep 3600", **{name: broken})
    with pytest.raises(LookupError, match="no"):
        await machine.execute(request)
    assert not alive(int(machine.live[0].id))


async def test_a_timeout_kills_the_whole_tree_and_keeps_the_output(machine):
    with pytest.raises(CommandTimeoutError, match=r"timeout of 3 s") as caught:
        await machine.execute(ExecRequest(shell="echo partial; sleep 3600 & echo $!; wait", timeout=3))
    result = caught.value.result
    assert result.timed_out
    assert result.exit_code == 128 + signal.SIGKILL
    first, child = result.stdout.split()
    assert first == "partial"
    await until(lambda: not alive(int(child)))
    assert (await machine.execute(ExecRequest(shell="echo usable"))).stdout == "usable\n"


async def test_a_cancellation_kills_the_command(machine):
    started = asyncio.Event()
    task = asyncio.ensure_future(
        machine.execute(ExecRequest(shell="echo go; sleep 3600", on_stdout=lambda _text: started.set()))
    )
    async with asyncio.timeout(30):
        await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int(machine.live[0].id))


async def test_a_slow_callback_slows_only_its_own_command(machine):
    release = asyncio.Event()

    async def slow(_text):
        await release.wait()

    blocked = asyncio.ensure_future(machine.execute(ExecRequest(shell="echo a", on_stdout=slow)))
    async with asyncio.timeout(60):
        assert (await machine.execute(ExecRequest(shell="echo b"))).stdout == "b\n"
        assert not blocked.done()
        release.set()
        assert (await blocked).stdout == "a\n"


async def test_a_command_that_ended_in_time_does_not_time_out_because_of_a_slow_callback():
    process = Scripted(stdout=[b"out"])
    timed = asyncio.Event()

    async def slow(_text):
        process.ended.set()
        await asyncio.sleep(1)
        timed.set()

    result = await run_process(process, ExecRequest(shell="x", timeout=0.5, on_stdout=slow))
    assert timed.is_set()
    assert result.exit_code == 0
    assert process.kills == 0


async def test_a_paused_clock_stops_the_timeout():
    clock = PausableClock()
    token = command_clock.set(clock)
    process = Scripted()
    try:
        clock.pause()
        task = asyncio.ensure_future(run_process(process, ExecRequest(shell="x", timeout=0.01)))
        done, _ = await asyncio.wait([task], timeout=0.3)
        assert not done
        clock.resume()
        with pytest.raises(CommandTimeoutError):
            await task
    finally:
        command_clock.reset(token)


async def test_a_machine_that_enforces_the_timeout_is_left_to_it():
    process = Scripted(enforces=True)
    task = asyncio.ensure_future(run_process(process, ExecRequest(shell="x", timeout=0.01)))
    done, _ = await asyncio.wait([task], timeout=0.3)
    assert not done
    process.timed_out = True
    process.ended.set()
    with pytest.raises(CommandTimeoutError) as caught:
        await task
    assert caught.value.result.timed_out
    assert process.kills == 0


async def test_a_process_that_cannot_be_killed_is_a_lost_machine(monkeypatch):
    monkeypatch.setattr(pump, "KILL_GRACE_SECONDS", 0.05)

    class Immortal(Scripted):
        async def kill(self) -> None:
            await asyncio.sleep(FOREVER)

    with pytest.raises(MachineLostError, match="did not kill it"):
        await run_process(Immortal(), ExecRequest(shell="x", timeout=0.01))


async def test_a_lost_machine_is_not_hidden_by_a_kill_that_fails(monkeypatch):
    monkeypatch.setattr(pump, "KILL_GRACE_SECONDS", 0.05)

    class Lost(Scripted):
        async def _pieces(self, pieces):
            raise MachineLostError("the connection is cut")
            yield b""

        async def kill(self) -> None:
            raise MachineLostError("still cut")

    with pytest.raises(MachineLostError, match="the connection is cut"):
        await run_process(Lost(), ExecRequest(shell="x"))


async def test_a_second_cancellation_does_not_interrupt_the_kill():
    killing, release = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def kill(self) -> None:
            killing.set()
            await release.wait()
            await super().kill()

    process = Slow()
    task = asyncio.ensure_future(run_process(process, ExecRequest(shell="x")))
    await asyncio.sleep(0.01)
    task.cancel()
    await killing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await until(lambda: process.kills == 1)


async def test_no_task_is_left_behind(machine):
    before = asyncio.all_tasks()

    def broken(_text):
        raise LookupError("no")

    for request in (
        ExecRequest(shell="cat", stdin=b"x"),
        ExecRequest(shell="sleep 3600", timeout=0.05),
        ExecRequest(shell="echo a; sleep 3600", on_stdout=broken),
    ):
        with contextlib.suppress(CommandTimeoutError, LookupError):
            await machine.execute(request)
    await until(lambda: asyncio.all_tasks() == before)


async def test_many_commands_run_at_once(machine):
    requests = [ExecRequest(shell=f"cat; exit {number}", stdin=b"%d" % number) for number in range(20)]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(machine.execute(request) for request in requests))
    assert [(result.stdout, result.exit_code) for result in results] == [(str(n), n) for n in range(20)]
