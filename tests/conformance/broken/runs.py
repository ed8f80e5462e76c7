"""Machines on which detached runs are not left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

from conformance.broken.registry import breaks
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake.tree import _processes


def detached(machine: FakeMachine) -> set[int]:
    """Return the processes in sessions of their own."""
    assert machine._body is not None
    tree, table = machine._body.tree, _processes()
    return {pid for pid in tree._everything(table) if pid in table and table[pid].session not in tree._leaders}


@breaks("run-output", "cannot start the run|there is no run|cannot read the run", also={"run-taken-over", "run-paused"})
class TidiesHiddenDirectories(FakeMachine):
    """Whose output cannot be read cannot be read by the next client either."""

    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if self._body is not None:
            shutil.rmtree(Path(self.workdir, ".gitmachine"), ignore_errors=True)
        return result


@breaks("run-taken-over", "the next client reads|a run ends|cannot read the run|there is no run|is lost", hangs=True)
class EndsDetachedProcessesWithItsClient(FakeMachine):
    async def close(self) -> None:
        for pid in detached(self):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@breaks("run-paused", "a run ends", hangs=True)
class ForgetsDetachedProcessesAtResume(FakeMachine):
    async def resume(self) -> None:
        frozen = detached(self)
        assert self._body is not None
        for pid in frozen:
            self._body.tree._frozen.pop(pid, None)
        await super().resume()
