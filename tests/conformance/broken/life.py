"""Machines that are broken in their life and in their pauses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

import attrs

from conformance.broken.registry import breaks
from gitmachine.clock import command_clock
from gitmachine.errors import MachineError
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.machine import MachineState
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake.tree import _processes


@breaks("life-id", "after stop the id")
class RemembersItsId(FakeMachine):
    last: str | None = None

    @property
    def id(self) -> str | None:
        self.last = super().id or self.last
        return self.last


@breaks("life-states", "expected the states")
class IsIdleAfterStop(FakeMachine):
    async def stop(self) -> None:
        await super().stop()
        self._state = MachineState.IDLE


@breaks("life-new-after-stop", "of the machine that was stopped")
class KeepsItsFiles(FakeMachine):
    kept: Path | None = None

    async def stop(self) -> None:
        if Path(self.workdir).is_dir():
            self.kept = Path(tempfile.mkdtemp(dir=os.environ["GITMACHINE_HOME"])) / "kept"
            shutil.copytree(self.workdir, self.kept, symlinks=True, ignore=shutil.ignore_patterns("repo", "pipe"))
        await super().stop()

    async def start(self) -> None:
        await super().start()
        if self.kept is not None:
            shutil.copytree(self.kept, self.workdir, symlinks=True, dirs_exist_ok=True)


@breaks("life-stop-paused", "is paused and cannot be stopped")
class CannotStopWhilePaused(FakeMachine):
    async def stop(self) -> None:
        if self._state is MachineState.PAUSED:
            raise MachineError("it is paused and cannot be stopped")
        await super().stop()


@breaks("life-stop-commands", "a command ends when its machine is stopped", hangs=True)
class LeavesItsCommandsHanging(FakeMachine):
    stops = 0

    async def stop(self) -> None:
        self.stops += 1
        await super().stop()

    async def execute(self, request: ExecRequest) -> ExecResult:
        before = self.stops
        result = await super().execute(request)
        if self.stops != before:
            await asyncio.get_running_loop().create_future()
        return result


@breaks("life-close", "there is no running fake machine", also={"run-taken-over"})
class EndsWithItsClient(FakeMachine):
    """A run cannot outlive a machine."""

    async def close(self) -> None:
        await self.stop()


@breaks("life-connect-unknown", "could be taken over")
class TakesOverAnything(FakeMachine):
    @classmethod
    async def connect(cls, machine_id: str) -> TakesOverAnything:
        try:
            return await super().connect(machine_id)
        except MachineError:
            machine = cls()
            await machine.start()
            return machine


@breaks("pause-freezes", "goes on writing while its machine is paused", hangs=True)
class OnlyPretendsToPause(FakeMachine):
    async def pause(self) -> None:
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        self._state = MachineState.RUNNING


@breaks("pause-continues", "expected 'before' and 'after'")
class LosesOutputOverAPause(FakeMachine):
    pauses = 0

    async def pause(self) -> None:
        self.pauses += 1
        await super().pause()

    async def execute(self, request: ExecRequest) -> ExecResult:
        before = self.pauses
        result = await super().execute(request)
        if self.pauses != before:
            return attrs.evolve(result, stdout_bytes=result.stdout_bytes.partition(b"\n")[2])
        return result


@breaks("pause-again", "a script that should succeed exited with 1")
class LosesFilesAtTheSecondPause(FakeMachine):
    pauses = 0

    async def pause(self) -> None:
        self.pauses += 1
        await super().pause()
        if self.pauses == 2:
            for path in Path(self.workdir).iterdir():
                if path.is_file():
                    path.unlink()


@breaks("pause-clock", "most of it paused")
class CountsPausedTime(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        token = command_clock.set(None)
        try:
            return await super().execute(request)
        finally:
            command_clock.reset(token)


@breaks("pause-stopped-stay", "stopped before the pause runs after resume")
class ContinuesEverything(FakeMachine):
    async def resume(self) -> None:
        await super().resume()
        assert self._body is not None
        for pid in self._body.tree._everything(_processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
