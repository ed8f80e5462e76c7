"""What a guarded machine does with terminals and copies: who may, in what order, and how long. Time budget: 20 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import Capability, ExecRequest, InvalidStateError, MachineError, MachineState, UnsupportedOperation
from gitmachine.errors import ConfigError
from gitmachine.execution import TerminalSize
from gitmachine.machines.managed import Deadlines, ManagedMachine
from gitmachine.testing import FakeMachine, FaultyMachine
from gitmachine.testing.fake import copies


@pytest.fixture
async def machine():
    """A machine that fails on demand, and its guard."""
    faulty = FaultyMachine(FakeMachine())
    managed = ManagedMachine(faulty)
    await managed.start()
    yield managed
    await managed.stop()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_command_on_a_terminal_is_spawned_and_never_executed(machine):
    request = ExecRequest(shell="stty size", terminal=TerminalSize(columns=50, rows=20))
    with pytest.raises(ConfigError, match="spawn it"):
        await machine.execute(request)
    process = await machine.spawn(request)
    assert b"".join([data async for data in process.stdout]) == b"20 50\r\n"
    await process.resize(TerminalSize())


async def test_a_terminal_needs_its_capability_and_a_plain_process_has_none_to_resize(machine):
    plain = await machine.spawn(ExecRequest(shell="true"))
    with pytest.raises(UnsupportedOperation, match="80 x 24"):
        await plain.resize(TerminalSize())
    await plain.wait()
    machine.inner.inner.capabilities -= {Capability.PTY}
    with pytest.raises(UnsupportedOperation, match="pty"):
        await machine.spawn(ExecRequest(shell="true", terminal=TerminalSize()))


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        (Capability.SNAPSHOT, lambda m: m.snapshot()),
        (Capability.SNAPSHOT, lambda m: m.snapshots()),
        (Capability.SNAPSHOT, lambda m: m.delete_snapshot("x")),
        (Capability.FORK, lambda m: m.fork()),
    ],
)
async def test_copies_need_their_capability_and_a_running_machine(machine, capability, call):
    await machine.pause()
    with pytest.raises(InvalidStateError, match="resume"):
        await call(machine)
    await machine.resume()
    machine.inner.inner.capabilities -= {capability}
    with pytest.raises(UnsupportedOperation, match=capability.value):
        await call(machine)


@pytest.mark.parametrize("operation", ["snapshot", "fork"])
async def test_a_copy_that_takes_too_long_is_an_error_and_the_machine_goes_on(machine, operation):
    machine._deadlines = Deadlines(copy=0.3)
    machine.inner.hang(operation)
    with pytest.raises(MachineError, match=r"within 0\.3 s: it goes on without"):
        await getattr(machine, operation)()
    assert machine.lost is None
    assert (await machine.execute(ExecRequest(shell="echo on"))).stdout == "on\n"


async def test_commands_go_on_beside_a_copy_and_a_pause_waits_for_its_end():
    faulty = FaultyMachine(FakeMachine())
    machine = ManagedMachine(faulty)
    await machine.start()
    faulty.slow("snapshot", 0.5, times=1)
    saving = asyncio.ensure_future(machine.snapshot())
    await until(lambda: faulty.calls["snapshot"])
    assert (await machine.execute(ExecRequest(shell="echo on"))).stdout == "on\n"
    await machine.pause()
    assert saving.done()
    assert machine.state is MachineState.PAUSED
    with pytest.raises(InvalidStateError):
        await machine.fork()
    await machine.stop()
    copies.delete_snapshot(await saving)


async def test_a_copy_that_is_asked_for_while_the_machine_is_being_paused_is_judged_by_the_new_state():
    faulty = FaultyMachine(FakeMachine())
    machine = ManagedMachine(faulty)
    await machine.start()
    faulty.slow("pause", 0.3, times=1)
    pausing = asyncio.ensure_future(machine.pause())
    await until(lambda: faulty.calls["pause"])
    with pytest.raises(InvalidStateError, match="resume"):
        await machine.snapshot()
    await pausing
    await machine.stop()


async def test_a_copy_that_nobody_waits_for_any_more_is_stopped():
    made = []

    class Late(FakeMachine):
        async def fork(self, *, label=None):
            copy = await super().fork(label=label)
            made.append(copy)
            caller.cancel()
            return copy

    machine = ManagedMachine(Late())
    await machine.start()
    caller = asyncio.ensure_future(machine.fork(label="l"))
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert made[0].state is MachineState.STOPPED
    await machine.stop()


async def test_a_copy_is_handed_out_as_the_provider_made_it(machine):
    copy = await machine.fork(label="its own")
    assert isinstance(copy, FakeMachine)
    assert (copy.label, copy.state) == ("its own", MachineState.RUNNING)
    await copy.stop()
