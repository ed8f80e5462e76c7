"""What stands around any machine, tried with real processes that are really frozen, and with machines that hang.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import (
    CommandTimeoutError,
    GitMachineError,
    InvalidStateError,
    MachineError,
    MachineFileNotFoundError,
    MachineLostError,
    MachineStartError,
    UnsupportedOperation,
)
from gitmachine.execution import ExecRequest, ExecResult, Process
from gitmachine.machine import Machine, MachineState
from gitmachine.machines.managed import ManagedMachine
from support.freezing import QUICK, FreezingMachine
from support.machines import FilesMachine, StreamMachine

OPERATIONS = {
    "execute": lambda machine: machine.execute(ExecRequest(shell="true")),
    "spawn": lambda machine: machine.spawn(ExecRequest(shell="true")),
    "read_file": lambda machine: machine.read_file("a"),
    "write_file": lambda machine: machine.write_file("a", b""),
    "list_files": lambda machine: machine.list_files(),
    "get_host": lambda machine: machine.get_host(80),
    "terminate_processes": lambda machine: machine.terminate_processes(),
}


def ticks(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def until(condition, seconds=60.0):
    """Wait until a condition holds, polling, at most so long."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def ticking(file: Path) -> str:
    return f"while :; do printf x >> '{file}'; sleep 0.01; done"


async def test_it_is_a_machine_with_the_looks_of_the_one_inside(machine, inner):
    assert isinstance(machine, Machine)
    assert machine.inner is inner
    assert machine.provider == "freezing"
    assert machine.capabilities == inner.capabilities
    assert machine.bulk_in == inner.bulk_in
    assert machine.workdir == inner.workdir
    assert machine.id == inner.id
    assert machine.lost is None


async def test_a_pause_by_somebody_else_is_one_once_it_was_looked_for(machine, inner, monkeypatch):
    found = MachineState.PAUSED

    async def refresh():
        inner._state = found

    monkeypatch.setattr(inner, "refresh", refresh)
    await machine.refresh()
    assert machine.state is MachineState.PAUSED
    assert machine.clock.paused
    with pytest.raises(InvalidStateError, match="resume"):
        await machine.execute(ExecRequest(shell="true"))
    found = MachineState.RUNNING
    await machine.refresh()
    assert not machine.clock.paused
    assert (await machine.execute(ExecRequest(shell="exit 3"))).exit_code == 3


async def test_operations_pass_through(machine):
    result = await machine.execute(ExecRequest(shell="cat; exit 3", stdin=b"in"))
    assert (result.stdout, result.exit_code) == ("in", 3)
    await machine.write_file("a/b", "text")
    assert await machine.read_file("a/b") == b"text"
    assert await machine.list_files("a") == ["b"]
    assert (await machine.get_host(80)).url == "http://127.0.0.1:80"
    process = await machine.spawn(ExecRequest(shell="exit 4"))
    assert await process.wait() == 4
    await machine.terminate_processes()


async def test_transitions_that_change_nothing_do_nothing(inner):
    machine = ManagedMachine(inner)
    for operation in (machine.pause, machine.resume, machine.stop):
        await operation()
    assert machine.state is MachineState.IDLE
    await machine.start()
    await machine.start()
    await machine.resume()
    await machine.pause()
    await machine.pause()
    await machine.resume()
    await machine.stop()
    for operation in (machine.stop, machine.pause, machine.resume):
        await operation()
    assert inner.calls == ["start", "pause", "resume", "stop"]
    assert machine.state is MachineState.STOPPED


async def test_start_after_stop_makes_a_new_machine(machine):
    first = machine.id
    await machine.stop()
    await machine.start()
    assert machine.id != first
    assert (await machine.execute(ExecRequest(shell="echo new"))).stdout == "new\n"


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_in_the_wrong_state_says_what_to_call_first(inner, name):
    machine = ManagedMachine(inner)
    operation = OPERATIONS[name]
    with pytest.raises(InvalidStateError, match=r"the machine is idle: call start\(\) first"):
        await operation(machine)
    await machine.start()
    await machine.pause()
    with pytest.raises(InvalidStateError, match=r"the machine is paused: call resume\(\) first") as caught:
        await operation(machine)
    assert caught.value.machine_id == machine.id
    assert caught.value.provider == "freezing"
    await machine.stop()
    with pytest.raises(InvalidStateError, match=r"the machine is stopped: call start\(\) first"):
        await operation(machine)


async def test_start_of_a_paused_machine_is_refused(machine):
    await machine.pause()
    with pytest.raises(InvalidStateError, match=r"machine is paused: call resume\(\) first"):
        await machine.start()
    await machine.resume()


async def test_what_a_machine_does_not_declare_is_unsupported(tmp_path):
    machine = ManagedMachine(FilesMachine(tmp_path))
    await machine.start()
    try:
        for name in ("spawn", "get_host", "terminate_processes"):
            with pytest.raises(UnsupportedOperation, match="files machines cannot"):
                await OPERATIONS[name](machine)
        with pytest.raises(UnsupportedOperation, match="pause"):
            await machine.pause()
        with pytest.raises(UnsupportedOperation, match="another user"):
            await machine.execute(ExecRequest(shell="true", user="root"))
    finally:
        await machine.stop()


async def test_a_machine_without_live_processes_runs_commands_and_its_output_reaches_callbacks(tmp_path):
    machine = ManagedMachine(FilesMachine(tmp_path))
    await machine.start()
    seen = []
    try:
        result = await machine.execute(ExecRequest(shell="printf hi; exit 2", on_stdout=seen.append))
    finally:
        await machine.stop()
    assert (result.stdout, result.exit_code, seen) == ("hi", 2, ["hi"])


async def test_commands_run_side_by_side(machine):
    async with asyncio.timeout(60):
        await machine.execute(ExecRequest(argv=["mkfifo", "pipe"]))
        reader = asyncio.ensure_future(machine.execute(ExecRequest(argv=["cat", "pipe"])))
        await machine.execute(ExecRequest(shell="echo through > pipe"))
        assert (await reader).stdout == "through\n"


async def test_a_pause_freezes_running_commands_and_resume_continues_them(machine, running, tmp_path):
    file = tmp_path / "ticks"
    task = await running(machine, ticking(file))
    await until(lambda: ticks(file) > 2)
    await machine.pause()
    assert machine.state is MachineState.PAUSED
    frozen = ticks(file)
    await asyncio.sleep(0.2)
    assert ticks(file) <= frozen + 2  # a write may have been under way
    assert not task.done()
    await machine.resume()
    await until(lambda: ticks(file) > frozen + 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_paused_time_does_not_count_against_a_timeout(tmp_path):
    began = asyncio.Event()

    class Endless(FreezingMachine):
        """Its only command is in memory: nothing needs time to start."""

        async def spawn(self, request: ExecRequest) -> Process:
            began.set()
            return EndlessProcess()

    machine = ManagedMachine(Endless(tmp_path))
    await machine.start()
    task = asyncio.ensure_future(machine.execute(ExecRequest(shell="x", timeout=3.0)))
    await began.wait()
    await machine.pause()
    done, _ = await asyncio.wait([task], timeout=3.3)
    assert not done
    await machine.resume()
    with pytest.raises(CommandTimeoutError):
        await task
    await machine.stop()


class EndlessProcess(Process):
    """Says nothing until it is killed."""

    id = "1"
    stdin = None

    def __init__(self) -> None:
        self._killed = asyncio.Event()

    async def _nothing(self):
        await self._killed.wait()
        return
        yield b""

    @property
    def stdout(self):
        return self._nothing()

    stderr = stdout

    async def wait(self) -> int:
        await self._killed.wait()
        return 137

    async def kill(self) -> None:
        self._killed.set()


async def test_a_stop_ends_running_commands_with_a_typed_error(machine, running):
    tasks = [await running(machine, "sleep 3600") for _ in range(3)]
    async with asyncio.timeout(60):
        await machine.stop()
    for task in tasks:
        assert task.done()
        with pytest.raises(InvalidStateError, match="ended because the machine is stopping"):
            await task
    assert machine.state is MachineState.STOPPED
    assert machine.lost is None


async def test_a_stop_of_a_paused_machine_ends_its_frozen_commands(machine, running):
    task = await running(machine, "sleep 3600")
    await machine.pause()
    async with asyncio.timeout(60):
        await machine.stop()
    with pytest.raises(InvalidStateError, match="machine is stopping"):
        await task


async def test_a_command_during_a_transition_waits_and_is_judged_by_the_new_state(inner):
    machine = ManagedMachine(inner)
    starting = asyncio.ensure_future(machine.start())
    await asyncio.sleep(0)
    assert (await machine.execute(ExecRequest(shell="echo up"))).stdout == "up\n"
    await starting
    pausing = asyncio.ensure_future(machine.pause())
    await asyncio.sleep(0)
    with pytest.raises(InvalidStateError, match="paused"):
        await machine.execute(ExecRequest(shell="true"))
    await pausing
    stopping = asyncio.ensure_future(machine.stop())
    await asyncio.sleep(0)
    with pytest.raises(InvalidStateError, match="stopped"):
        await machine.read_file("a")
    await stopping


@pytest.mark.parametrize("name", ["execute", "spawn", "write_file"])
async def test_a_closed_gate_refuses_what_changes_the_machine(machine, name):
    with machine.gate.closed("the machine is stopping"):
        with pytest.raises(InvalidStateError, match=f"cannot {name}: the machine is stopping"):
            await OPERATIONS[name](machine)
        assert await machine.list_files() == []
        with machine.gate.permit():
            await OPERATIONS[name](machine)


async def test_errors_of_callbacks_and_input_come_through_as_they_are(machine):
    def broken(_text):
        raise LookupError("mine")

    async def source():
        raise LookupError("mine too")
        yield b""

    with pytest.raises(LookupError, match=r"^mine$"):
        await machine.execute(ExecRequest(shell="echo a; sleep 3600", on_stdout=broken))
    with pytest.raises(LookupError, match="mine too"):
        await machine.execute(ExecRequest(shell="cat; sleep 3600", stdin=source()))
    assert (await machine.execute(ExecRequest(shell="echo usable"))).ok


async def test_foreign_errors_become_ours_with_the_cause(machine, inner):
    cause = ZeroDivisionError("inside")
    for name in ("spawn", "list_files", "get_host", "terminate_processes"):
        inner.faults = {name: cause}
        with pytest.raises(MachineError, match=f"failed to {name}: ZeroDivisionError: inside") as caught:
            await OPERATIONS[name](machine)
        assert caught.value.__cause__ is cause
    inner.faults = {"spawn": cause}
    with pytest.raises(MachineError, match="failed to execute: ZeroDivisionError") as caught:
        await machine.execute(ExecRequest(shell="true"))
    assert caught.value.__cause__ is cause
    inner.faults = {"read_file": FileNotFoundError(2, "No such file")}
    with pytest.raises(MachineFileNotFoundError, match="read_file 'a': No such file"):
        await machine.read_file("a")
    inner.faults = {"close": cause}
    with pytest.raises(MachineError, match="failed to close"):
        await machine.close()
    assert machine.lost is None


async def test_our_errors_are_raised_as_they_are(machine, inner):
    error = UnsupportedOperation("no")
    inner.faults = {"spawn": error}
    for name in ("spawn", "execute"):
        with pytest.raises(UnsupportedOperation) as caught:
            await OPERATIONS[name](machine)
        assert caught.value is error
        assert caught.value.__cause__ is None


async def test_a_failed_start_is_a_start_error_and_can_be_tried_again(inner):
    machine = ManagedMachine(inner, deadlines=QUICK)
    inner.faults = {"start": OSError("no room")}
    with pytest.raises(MachineStartError, match="no room"):
        await machine.start()
    inner.faults = {"start": "hang"}
    with pytest.raises(MachineStartError, match=r"did not start within 0\.2 s"):
        await machine.start()
    assert machine.state is MachineState.IDLE
    inner.faults = {}
    await ManagedMachine(inner).start()


@pytest.mark.parametrize("how", ["hang", "hang for ever"])
@pytest.mark.parametrize("name", ["pause", "resume", "stop", "spawn", "read_file", "list_files", "get_host"])
async def test_a_machine_that_does_not_answer_is_lost(quick, inner, losses, name, how):
    if name == "resume":
        await StreamMachine.start(inner)
        inner._state = MachineState.PAUSED
    inner.faults = {name: how}
    operation = OPERATIONS.get(name) or (lambda machine: getattr(machine, name)())
    async with asyncio.timeout(60):
        with pytest.raises(MachineLostError, match=rf"did not {name} within 0\.2 s"):
            await operation(quick)
    assert quick.state is MachineState.STOPPED
    assert quick.lost == losses[0]
    with pytest.raises(MachineLostError, match="the machine was lost"):
        await quick.execute(ExecRequest(shell="true"))
    await quick.stop()
    assert len(losses) == 1
    with pytest.raises(InvalidStateError, match="may still exist"):
        await quick.start()


async def test_a_close_that_hangs_is_an_error_and_loses_nothing(quick, inner, losses):
    inner.faults = {"close": "hang"}
    with pytest.raises(MachineError, match=r"was not let go within 0\.2 s"):
        await quick.close()
    assert losses == []


async def test_a_command_that_is_not_reported_in_time_is_a_lost_machine(tmp_path, losses):
    class Silent(FreezingMachine):
        async def execute(self, request: ExecRequest) -> ExecResult:
            await asyncio.Event().wait()
            raise AssertionError

    machine = ManagedMachine(Silent(tmp_path), deadlines=attrs.evolve(QUICK, start=60.0), on_lost=losses.append)
    await machine.start()
    async with asyncio.timeout(60):
        with pytest.raises(MachineLostError, match=r"did not end a command within 0\.2 s after its timeout of 0\.1 s"):
            await machine.execute(ExecRequest(shell="true", timeout=0.1))
    assert len(losses) == 1


async def test_a_slow_callback_does_not_make_the_machine_lost(tmp_path, losses):
    class Direct(FreezingMachine):
        async def execute(self, request: ExecRequest) -> ExecResult:
            await request.on_stdout("a")
            return ExecResult(exit_code=0)

    async def slow(_text):
        await asyncio.sleep(1)

    machine = ManagedMachine(Direct(tmp_path), deadlines=attrs.evolve(QUICK, start=60.0), on_lost=losses.append)
    await machine.start()
    result = await machine.execute(ExecRequest(shell="x", timeout=0.5, on_stdout=slow))
    assert result.ok
    assert losses == []


async def test_a_lost_machine_ends_every_command_and_says_so_once(machine, inner, running, losses):
    task = await running(machine, "sleep 3600")
    inner.faults = {"read_file": MachineLostError("the host is down"), "list_files": MachineLostError("again")}
    for name in ("read_file", "list_files"):
        with pytest.raises(MachineLostError):
            await OPERATIONS[name](machine)
    with pytest.raises(MachineLostError, match="the host is down"):
        await task
    assert losses == ["the host is down"]
    assert machine.state is MachineState.STOPPED


async def test_a_command_that_finds_the_machine_gone_reports_the_loss(machine, inner, losses):
    inner.faults = {"spawn": MachineLostError("gone", machine_id="x")}
    with pytest.raises(MachineLostError, match=r"^gone$"):
        await machine.execute(ExecRequest(shell="true"))
    assert losses == ["gone"]


async def test_a_machine_that_ended_by_itself_is_noticed(machine, inner, losses):
    inner.die()
    with pytest.raises(MachineLostError, match="it ended by itself"):
        await machine.execute(ExecRequest(shell="true"))
    assert losses == ["it ended by itself"]
    await machine.start()
    assert machine.lost is None
    assert (await machine.execute(ExecRequest(shell="echo new"))).ok


async def test_a_machine_that_runs_already_can_be_taken_over(inner):
    await inner.start()
    machine = ManagedMachine(inner)
    assert machine.state is MachineState.RUNNING
    await machine.pause()
    taken = ManagedMachine(inner)
    assert taken.clock.paused
    await taken.resume()
    assert (await taken.execute(ExecRequest(shell="true"))).ok


async def test_a_pause_that_fails_leaves_the_clock_running(machine, inner):
    inner.faults = {"pause": OSError("no")}
    with pytest.raises(MachineError):
        await machine.pause()
    assert not machine.clock.paused
    assert machine.state is MachineState.RUNNING


async def test_a_cancelled_command_is_killed_and_the_machine_stays_usable(machine, inner, running):
    task = await running(machine, "sleep 3600")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await inner.live[0].wait() == 137
    assert len(machine._commands) == 0
    assert (await machine.execute(ExecRequest(shell="echo usable"))).ok


async def test_a_process_that_starts_as_its_caller_is_cancelled_is_killed(machine, inner):
    task = asyncio.ensure_future(machine.spawn(ExecRequest(shell="sleep 3600")))
    await until(lambda: inner.live)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await task).kill()
    async with asyncio.timeout(60):
        assert await inner.live[0].wait() == 137


@pytest.mark.parametrize("seed", range(5))
async def test_fifty_tasks_that_pause_resume_execute_and_stop_never_deadlock(inner, seed):
    """Each call returns or raises a typed error; in the end the machine can be stopped."""
    machine = ManagedMachine(inner)
    await machine.start()
    chance = random.Random(seed)
    calls = [
        lambda: machine.execute(ExecRequest(shell="sleep 0.05; echo a", on_stdout=lambda _text: None)),
        lambda: machine.execute(ExecRequest(shell="sleep 3600", timeout=0.3)),
        lambda: machine.write_file("a", b"x"),
        machine.list_files,
        machine.pause,
        machine.resume,
        lambda: machine.end_commands(0.05),
        machine.stop,
        machine.start,
    ]
    weights = [20, 5, 10, 5, 5, 8, 1, 1, 3]

    async def one() -> None:
        for _ in range(3):
            with contextlib.suppress(GitMachineError):
                await chance.choices(calls, weights)[0]()

    async def keep_going() -> None:
        while True:  # a command of a paused machine waits for its resume
            await asyncio.sleep(0.1)
            with contextlib.suppress(GitMachineError):
                await machine.resume()

    waker = asyncio.ensure_future(keep_going())
    try:
        async with asyncio.timeout(100):
            await asyncio.gather(*(one() for _ in range(50)))
    finally:
        waker.cancel()
        await asyncio.gather(waker, return_exceptions=True)
    async with asyncio.timeout(60):
        await machine.stop()
    assert machine.state is MachineState.STOPPED
    assert len(machine._commands) == 0
    assert machine.lost is None
