"""Machines that break the contract: each is told by name, as the machine's mistake, and never as ours.

Time budget: 10 s.
"""

from __future__ import annotations

import pytest

from gitmachine.errors import MachineError, MachineStartError
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.machine import MachineState
from gitmachine.machines.managed import ManagedMachine
from support.machines import FilesMachine, StreamMachine


async def broken(tmp_path, base=FilesMachine, **methods):
    """A machine of a class with some of its methods replaced, started."""
    made = type("Broken", (base,), {"provider": "broken", **methods})(tmp_path)
    machine = ManagedMachine(made)
    await machine.start()
    return machine


def at_once(answer):
    return lambda *_, **__: answer


def later(answer):
    async def method(*_, **__):
        return answer

    return method


def raises(*_, **__):
    raise RuntimeError("no power")


RUN = ExecRequest(shell="true")

ANSWERS = [
    ("execute", later(None), "it returned None, and owes an ExecResult"),
    ("execute", at_once(ExecResult(exit_code=0)), "it has to be a coroutine function (async def): it returned ExecR"),
    ("execute", later(ExecResult(exit_code=-9)), "exit_code of its result is -9, and has to be 0 to 255"),
    ("execute", later(ExecResult(exit_code=256)), "exit_code of its result is 256, and has to be 0 to 255"),
    ("execute", later(ExecResult(exit_code="0")), "exit_code of its result is '0', and has to be 0 to 255"),
    ("execute", later(ExecResult(exit_code=0, stdout_bytes="t")), "stdout_bytes of its result is 't', and has to be b"),
    ("execute", later(ExecResult(exit_code=0, stderr_bytes=None)), "stderr_bytes of its result is None, and has to be"),
    ("execute", raises, "RuntimeError: no power"),
    ("read_file", later("text"), "it returned 'text', and owes bytes"),
    ("read_file", at_once(b"x"), "it has to be a coroutine function (async def): it returned b'x' at once"),
    ("read_file", raises, "RuntimeError: no power"),
    ("write_file", at_once(None), "it has to be a coroutine function (async def): it returned None at once"),
    ("list_files", at_once(["a"] * 100), "it returned ['a', 'a', "),
    ("stop", at_once(None), "it has to be a coroutine function (async def): it returned None at once"),
    ("stop", raises, "RuntimeError: no power"),
    ("close", at_once(None), "it has to be a coroutine function (async def): it returned None at once"),
]
CALLS = {
    "execute": lambda machine: machine.execute(RUN),
    "read_file": lambda machine: machine.read_file("a"),
    "write_file": lambda machine: machine.write_file("a", b""),
    "list_files": lambda machine: machine.list_files(),
    "stop": lambda machine: machine.stop(),
    "close": lambda machine: machine.close(),
}


@pytest.mark.parametrize(("name", "method", "message"), ANSWERS)
async def test_an_answer_that_breaks_the_contract_is_the_machines_mistake(tmp_path, name, method, message):
    machine = await broken(tmp_path, **{name: method})
    with pytest.raises(MachineError) as caught:
        await CALLS[name](machine)
    assert str(caught.value).startswith(f"the broken machine failed to {name}: ")
    assert message in str(caught.value)
    assert (caught.value.provider, caught.value.operation) == ("broken", name)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (at_once(None), "it has to be a coroutine function (async def): it returned None at once"),
        (later(None), "it returned, and its state is still 'idle': it has to be 'running' then"),
        (raises, "RuntimeError: no power"),
    ],
)
async def test_a_start_that_starts_nothing_is_a_start_error(tmp_path, method, message):
    with pytest.raises(MachineStartError) as caught:
        await broken(tmp_path, start=method)
    assert str(caught.value).startswith("the broken machine failed to start: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("answer", [None, "running"])
async def test_a_state_that_is_none_is_told(tmp_path, answer):
    made = type("Broken", (FilesMachine,), {"provider": "broken"})(tmp_path)
    machine = ManagedMachine(made)
    type(made).state = answer
    with pytest.raises(MachineError, match=f"the state of the broken machine is {answer!r}, and has to be a Machine"):
        await machine.start()


async def test_a_process_that_is_none_is_told(tmp_path):
    machine = await broken(tmp_path, base=StreamMachine, spawn=later(None))
    with pytest.raises(MachineError, match=r"the broken machine failed to spawn: .* it returned None, and owes a Proc"):
        await machine.spawn(RUN)
    assert machine.state is MachineState.RUNNING
    await machine.stop()


async def test_any_bytes_are_bytes(tmp_path):
    machine = await broken(tmp_path, read_file=later(bytearray(b"x")))
    assert type(await machine.read_file("a")) is bytes
    await machine.stop()
