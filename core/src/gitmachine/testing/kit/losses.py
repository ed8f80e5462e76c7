"""When the machine dies, or the way to it breaks: an error within seconds, never a wait."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from gitmachine.errors import MachineError, MachineLostError
from gitmachine.execution import ExecRequest
from gitmachine.machine import Capability, MachineState
from gitmachine.testing.faults import FaultyMachine
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, script_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["LossBehaviours"]


class LossBehaviours(KitBase):
    """Machine deaths, and faults put in by a wrapper."""

    @behaviour("lost-command", "a machine that dies during a command is a MachineLostError within seconds")
    async def test_lost_command(self, stage: Stage) -> None:
        """Calls that never return when the sandbox dies are reported for hosted sandboxes again and again."""
        request = script_request(f"echo x > started; echo out; {await_file('never')}")
        async with stage.running(stage.machine.execute(request)) as command:
            await stage.until("a command starts", lambda: _exists(stage, "started"))
            await stage.kill()
            await stage.within("a command ends when its machine dies", asyncio.wait([command]))
            error = command.exception()
        check(isinstance(error, MachineLostError), f"expected MachineLostError, not {error!r}")

    @behaviour("lost-afterwards", "every operation on a dead machine is an error within seconds")
    async def test_lost_afterwards(self, stage: Stage) -> None:
        """An empty listing, or a file that is 'not found', is an answer that a dead machine cannot give."""
        await stage.good("echo x > file")
        await stage.kill()
        raw = stage.raw
        calls = (
            ("execute", lambda: raw.execute(ExecRequest(argv=["true"]))),
            ("read_file", lambda: raw.read_file("file")),
            ("write_file", lambda: raw.write_file("file", b"y")),
            ("list_files", raw.list_files),
        )
        for name, call in calls:
            try:
                await stage.within(f"{name} on a dead machine comes back", call())
            except MachineLostError:
                continue
            except MachineError as error:
                raise ConformanceFailure(f"{name} on a dead machine raised {error!r}, not MachineLostError") from error
            raise ConformanceFailure(f"{name} on a dead machine raised nothing")

    @behaviour("lost-process", "the streams of a live process end when its machine dies", needs=(Capability.SPAWN,))
    async def test_lost_process(self, stage: Stage) -> None:
        """Whoever copies a stream has no deadline of his own: without an end it is copied for ever."""
        process = await stage.raw.spawn(script_request(f"echo out; {await_file('never')}"))
        first = await stage.within("output arrives", anext(process.stdout))
        check(first == b"out\n", f"a process printed {first!r}")
        await stage.kill()
        try:
            await stage.within("a process is over when its machine dies", process.wait())
        except MachineLostError:
            pass
        else:
            raise ConformanceFailure("waiting for a process of a dead machine raised nothing")
        await stage.within("its output ends", _drain(process.stdout))
        await stage.within("its errors end", _drain(process.stderr))

    @behaviour("lost-stop", "a dead machine can be stopped: what is left of it is removed")
    async def test_lost_stop(self, stage: Stage) -> None:
        """Clean-up that fails because the thing is gone already leaves the rest of it behind."""
        await stage.good("true")
        await stage.kill()
        await stage.within("stop of a dead machine comes back", stage.raw.stop())
        check(
            stage.raw.state not in {MachineState.RUNNING, MachineState.PAUSED},
            f"after stop the dead machine is {stage.raw.state}",
        )

    @behaviour("fault-cut", "a connection cut in mid-output is MachineLostError; the machine itself goes on")
    async def test_fault_cut(self, stage: Stage) -> None:
        """Half an output that looks like a whole one is a wrong result; reruns after a cut do things twice."""
        faulty = FaultyMachine(stage.raw)
        machine = stage.adopt(faulty)
        faulty.cut_output(after_bytes=1000)
        pieces: list[bytes] = []
        script = 'echo x >> runs; i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done'
        request = script_request(script, on_stdout_bytes=pieces.append)
        try:
            await stage.within("a command ends when its connection is cut", machine.execute(request))
        except MachineLostError:
            pass
        else:
            raise ConformanceFailure("a command whose connection was cut raised nothing")
        check(len(b"".join(pieces)) <= 1000, "output arrived after the cut")
        result = await stage.sh("cat runs")
        check(result.stdout == "x\n", f"after the cut, a file that the command wrote once holds {result.stdout!r}")


async def _exists(stage: Stage, name: str) -> bool:
    return await stage.size(name) > 0


async def _drain(stream: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(MachineLostError):
        async for _ in stream:
            pass
