"""Starting and stopping: states, ids, repeated transitions, letting go and taking over."""

from __future__ import annotations

import asyncio

from gitmachine.errors import MachineError, MachineLostError
from gitmachine.machine import Capability, MachineState
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, script_request

__all__ = ["LifeBehaviours"]

_ALIVE = {MachineState.RUNNING, MachineState.PAUSED}


class LifeBehaviours(KitBase):
    """What a machine is before, during and after its life."""

    @behaviour("life-id", "a machine has an id from start to stop, the same all the time", started=False)
    async def test_life_id(self, stage: Stage) -> None:
        """Nothing can be found again, listed or cleaned up without an id.

        Several tools hand out a new handle each time they reconnect, or keep the id of a machine that is gone.
        """
        machine = stage.machine
        check(machine.id is None, f"before start the id has to be None, not {machine.id!r}")
        await machine.start()
        first = machine.id
        check(isinstance(first, str) and first, f"after start the id has to be a string, not {first!r}")
        await stage.sh("true")
        check(machine.id == first, f"the id changed from {first!r} to {machine.id!r}")
        await machine.stop()
        check(machine.id is None, f"after stop the id has to be None, not {machine.id!r}")

    @behaviour("life-states", "the state goes from idle to running to stopped", started=False)
    async def test_life_states(self, stage: Stage) -> None:
        """Everything that guards a machine relies on its state; in some tools it is a flag that only some calls set."""
        states = [stage.machine.state]
        await stage.machine.start()
        states.append(stage.machine.state)
        await stage.machine.stop()
        states.append(stage.machine.state)
        expected = [MachineState.IDLE, MachineState.RUNNING, MachineState.STOPPED]
        check(states == expected, f"expected the states idle, running, stopped, not {', '.join(states)}")

    @behaviour("life-new-after-stop", "start after stop makes a new, empty machine")
    async def test_life_new_after_stop(self, stage: Stage) -> None:
        """What one session left behind must not be found by the next one."""
        await stage.good("echo old > left-behind")
        first = stage.machine.id
        await stage.machine.stop()
        await stage.machine.start()
        check(stage.machine.id != first, f"the new machine has the id of the old one, {first!r}")
        result = await stage.sh("cat left-behind")
        check(result.exit_code != 0, "a file of the machine that was stopped is in the new one")

    @behaviour("life-stop-paused", "stop works on a paused machine", needs=(Capability.PAUSE,))
    async def test_life_stop_paused(self, stage: Stage) -> None:
        """A paused machine is the one most easily forgotten; its processes cannot react to a friendly signal."""
        await stage.good("sleep 600 >/dev/null 2>&1 &")
        await stage.machine.pause()
        await stage.machine.stop()
        check(stage.raw.state not in _ALIVE, f"after stop the machine is {stage.raw.state}")

    @behaviour("life-stop-commands", "stop ends what runs, and whoever waits for it is told")
    async def test_life_stop_commands(self, stage: Stage) -> None:
        """Calls that hang for ever once the sandbox is gone are among the most reported faults of hosted sandboxes."""
        request = script_request(f"echo on > started; {await_file('never')}")
        async with stage.running(stage.raw.execute(request)) as command:
            await _started(stage)
            await stage.machine.stop()
            await stage.within("a command ends when its machine is stopped", asyncio.wait([command]))
            error = command.exception()
            check(
                isinstance(error, MachineError) if error is not None else command.result().exit_code != 0,
                f"a command whose machine was stopped has to fail, not to end with {error or command.result()!r}",
            )

    @behaviour("life-close", "close lets go and leaves the machine and its processes running")
    async def test_life_close(self, stage: Stage) -> None:
        """A machine outlives its client, or a crash would take the work along; few tools can take one over again."""
        await stage.good("echo kept > kept")
        await stage.good(f"( {await_file('go')}; echo done > done ) >/dev/null 2>&1 &")
        identifier = stage.machine.id
        assert identifier is not None
        await stage.machine.close()
        stage.raw = await self.connect(identifier)
        stage.machine = stage.adopt(stage.raw)
        check(stage.machine.state is MachineState.RUNNING, f"the machine that was taken over is {stage.machine.state}")
        check(stage.machine.id == identifier, f"the machine that was taken over has the id {stage.machine.id!r}")
        result = await stage.sh("cat kept")
        check(result.stdout == "kept\n", "a file is gone after the machine was taken over")
        await stage.signal("go")
        await stage.until("a process goes on after its client let go", lambda: _exists(stage, "done"))

    @behaviour("life-connect-unknown", "taking over a machine that does not exist is an error that names it")
    async def test_life_connect_unknown(self, stage: Stage) -> None:
        """Otherwise the first command fails, far away from the mistake."""
        identifier = stage.machine.id
        assert identifier is not None
        await stage.machine.stop()
        try:
            found = await self.connect(identifier)
        except MachineLostError as error:
            check(identifier in str(error), f"the error has to name the machine {identifier!r}: {error}")
        else:
            stage.adopt(found)
            raise ConformanceFailure("a machine that was stopped could be taken over")


async def _started(stage: Stage) -> None:
    await stage.until("a command starts", lambda: _exists(stage, "started"))


async def _exists(stage: Stage, name: str) -> bool:
    return await stage.size(name) > 0
