"""Detached runs: commands that live on without whoever started them; they need nothing of a machine but `execute`."""

from __future__ import annotations

from datetime import UTC, datetime

from gitmachine.machine import Capability
from gitmachine.machines.runs import Piece, Runs, new_run_id
from gitmachine.outcomes import RunInfo, RunState
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, script_request, shown

__all__ = ["RunBehaviours"]

_LINES = 3000
_COUNT = f'i=0; while [ $i -lt {_LINES} ]; do echo "line $i"; i=$((i+1)); done'
_OUTPUT = "".join(f"line {number}\n" for number in range(_LINES)).encode()


class RunBehaviours(KitBase):
    """What a machine has to do so that runs can be left alone and found again."""

    @behaviour("run-output", "all output of a detached run can be read, once, from any offset")
    async def test_run_output(self, stage: Stage) -> None:
        """With hosted sandboxes a reconnect loses what was printed before, or stops after a large output."""
        started = await _start(stage, f"{_COUNT}; echo err >&2; exit 7")
        whole, last = await _read(stage, started, 0)
        check(whole == _OUTPUT, f"a run printed {len(_OUTPUT)} bytes, read were {shown(whole)}")
        check(last.exit_code == 7, f"a run exited with 7, reported was {last.exit_code}")
        for offset in (1, 5000, len(_OUTPUT) - 3):
            part, _ = await _read(stage, started, offset)
            check(part == _OUTPUT[offset:], f"from offset {offset} of a run was read {shown(part)}")
        errors = (await _runs(stage).look(started, stderr=0)).stderr
        check(errors == b"err\n", f"a run's standard error is {errors!r}")

    @behaviour("run-taken-over", "a detached run survives its client and is found by the next one")
    async def test_run_taken_over(self, stage: Stage) -> None:
        """A command of an hour, started from a laptop that is closed, is lost with most tools."""
        started = await _start(stage, f"echo before; {await_file('go')}; echo after; exit 5")
        identifier = stage.machine.id
        assert identifier is not None
        await stage.machine.close()
        stage.raw = await self.connect(identifier)
        stage.machine = stage.adopt(stage.raw)
        await stage.signal("go")
        output, last = await _read(stage, started, 0)
        check(output == b"before\nafter\n", f"the next client reads {output!r} of the run")
        check(last.exit_code == 5, f"the run exited with 5, reported was {last.exit_code}")
        listed = [info.id for info in await _runs(stage).list()]
        check(listed == [started], f"the next client lists the runs {listed}, not {started}")

    @behaviour("run-paused", "a detached run is frozen and continued with its machine", needs=(Capability.PAUSE,))
    async def test_run_paused(self, stage: Stage) -> None:
        """What is not a child of the pausing process is easily forgotten, at the pause or at the resume."""
        started = await _start(stage, f"echo before; {await_file('go')}; echo after")
        await stage.machine.pause()
        await stage.machine.resume()
        await stage.signal("go")
        output, last = await _read(stage, started, 0)
        check(output == b"before\nafter\n", f"after a pause {output!r} is read of the run")
        check(last.state is RunState.EXITED, f"after a pause the run is {last.state}")


def _runs(stage: Stage) -> Runs:
    return Runs(stage.machine.execute, stage.path(".gitmachine/runs"))


async def _start(stage: Stage, script: str) -> str:
    info = RunInfo(id=new_run_id(), name=None, command="kit", started=datetime.now(UTC), state=RunState.RUNNING)
    await _runs(stage).start(script_request(script), info)
    return info.id


async def _read(stage: Stage, run_id: str, offset: int) -> tuple[bytes, Piece]:
    """Read a run from an offset to its end."""
    return await stage.within("a run ends", _read_all(_runs(stage), run_id, offset))  # type: ignore[no-any-return]


async def _read_all(runs: Runs, run_id: str, offset: int) -> tuple[bytes, Piece]:
    data = b""
    while True:
        piece = await runs.look(run_id, stdout=offset + len(data), wait=True)
        data += piece.stdout
        if piece.ended and offset + len(data) >= piece.stdout_bytes:
            return data, piece
