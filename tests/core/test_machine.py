"""The machine contract: what comes for free, and what is refused unless it is declared.

Time budget: 10 s.
"""

from __future__ import annotations

import pytest

from gitmachine.errors import UnsupportedOperation
from gitmachine.execution import ExecRequest
from gitmachine.machine import Capability, Host, Machine, MachineState
from support.machines import FilesMachine, StreamMachine


@pytest.mark.parametrize(
    ("call", "capability"),
    [
        (lambda machine: machine.pause(), Capability.PAUSE),
        (lambda machine: machine.resume(), Capability.PAUSE),
        (lambda machine: machine.spawn(ExecRequest(shell="true")), Capability.SPAWN),
        (lambda machine: machine.get_host(80), Capability.PORTS),
        (lambda machine: machine.terminate_processes(), Capability.QUIESCE),
        (lambda machine: Machine.execute(machine, ExecRequest(shell="true")), Capability.SPAWN),
    ],
)
async def test_what_is_not_declared_is_unsupported(call, capability):
    with pytest.raises(UnsupportedOperation, match=f"files machines cannot .*'{capability.value}'") as caught:
        await call(FilesMachine())
    assert caught.value.provider == "files"


async def test_execute_comes_with_spawn(tmp_path):
    machine = StreamMachine(tmp_path)
    await machine.start()
    try:
        result = await Machine.execute(machine, ExecRequest(shell="cat; exit 5", stdin=b"in"))
    finally:
        await machine.stop()
    assert (result.stdout, result.exit_code) == ("in", 5)


async def test_a_process_that_was_waited_for_is_not_killed_once_more_in_whoever_has_its_number_now(tmp_path):
    machine = StreamMachine(tmp_path)
    await machine.start()
    try:
        ended = await machine.spawn(ExecRequest(argv=["true"]))
        stranger = await machine.spawn(ExecRequest(shell="read -r line; exit 7", open_stdin=True))
        await ended.wait()
        ended._child.pid = int(stranger.id)  # as when numbers have gone round
        await ended.kill()
        await stranger.stdin.close()
        assert await stranger.wait() == 7
    finally:
        await machine.stop()


async def test_letting_go_is_harmless():
    await FilesMachine().close()


def test_a_machine_without_its_five_methods_cannot_be_made():
    class Half(Machine):
        id = None
        state = MachineState.IDLE

    with pytest.raises(TypeError, match=r"start.*stop|list_files"):
        Half()


def test_a_host_is_its_address_and_has_a_url():
    host = Host("127.0.0.1:8080")
    assert host == "127.0.0.1:8080"
    assert host.url == "http://127.0.0.1:8080"


def test_states_are_upstreams_words():
    assert [state.value for state in MachineState] == ["idle", "running", "paused", "stopped"]
