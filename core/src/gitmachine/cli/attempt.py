"""One run from start to stop, with every way it can end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gitmachine.cli.exits import Exit
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import explain, say
from gitmachine.cli.running import Running, fail
from gitmachine.errors import ConfigError, GitMachineError, MachineError, MachineLostError, PushError, StopRefused
from gitmachine.machine import MachineState

if TYPE_CHECKING:
    from gitmachine.cli.report import Outcome, Progress
    from gitmachine.cli.running import Plan
    from gitmachine.session import AsyncGitMachine

__all__ = ["Attempt"]


class Attempt:
    """Runs a plan in a session and fills in the outcome.

    Args:
        plan: what to run.
        gm: the session, not started.
        outcome: filled in.
        progress: told what happens.
    """

    def __init__(self, plan: Plan, gm: AsyncGitMachine, outcome: Outcome, progress: Progress) -> None:
        self._plan = plan
        self._outcome = outcome
        self._progress = progress
        self._gm = gm
        self._interrupts = Interrupts(self._announce, self._leave)
        self._phase = "starting"

    async def run(self) -> None:
        """Start, run the command, publish and stop; nothing but a cancellation is raised."""
        outcome, gm = self._outcome, self._gm
        outcome.repository, outcome.session, outcome.name = gm.repository, gm.session, gm.name
        self._interrupts.install()
        self._progress.line(f"starting a machine ({outcome.provider}) for {gm.repository}")
        if not await self._start():
            return
        outcome.machine, outcome.session, outcome.key = gm.id, gm.session, gm.key
        self._phase = "running"
        await Running(self._plan, self._gm, self._outcome, self._interrupts).run()
        self._phase = "saving"
        await self._finish()
        outcome.hook_failures = gm.hook_failures

    async def _start(self) -> bool:
        try:
            await self._interrupts.run(self._gm.start())
        except Interrupted:
            self._failed(Exit.INTERRUPTED, "interrupted before the command started; nothing is left behind")
        except Exception as error:  # noqa: BLE001  # told as the outcome, with the traceback on request
            self._failed(Exit.USAGE if isinstance(error, ConfigError) else Exit.RUN_FAILURE, error)
        else:
            return True
        return False

    async def _finish(self) -> None:
        outcome = self._outcome
        try:
            if self._plan.keep:
                await self._keep()
            else:
                outcome.receipt = await self._gm.stop()
        except Exception as error:  # noqa: BLE001  # told as the outcome, with the traceback on request
            if self._gm.state is MachineState.STOPPED and self._gm.receipt is not None:
                outcome.receipt = self._gm.receipt  # published and stopped; a plugin's teardown failed
                self._tell_earlier()
                self._failed(Exit.RUN_FAILURE, error)
            else:
                self._not_published(error)
                outcome.machine_kept = self._gm.id is not None and not isinstance(error, MachineLostError)
        try:
            await self._gm.close()
        except GitMachineError as error:
            self._progress.line(explain(error))

    async def _keep(self) -> None:
        self._outcome.machine_kept = True
        if self._plan.auto_commit:
            await self._gm.commit()
            self._outcome.push = await self._gm.push()

    def _not_published(self, error: Exception) -> None:
        self._tell_earlier()
        if isinstance(error, MachineError) or not isinstance(error, GitMachineError):
            self._failed(Exit.RUN_FAILURE, error)
            return
        if isinstance(error, PushError):
            self._outcome.rescue = error.rescue
        elif isinstance(error, StopRefused):
            self._outcome.unpublished = tuple(error.unpublished)
        self._failed(Exit.RUN_KEPT, error)

    def _tell_earlier(self) -> None:
        """What went wrong before is told above the last line, which belongs to what is worse."""
        if self._outcome.error is not None:
            say(self._outcome.error)

    def _failed(self, status: Exit, error: Exception | str) -> None:
        fail(self._plan, self._outcome, status, error)

    def _announce(self) -> None:
        what = {
            "starting": "interrupted: undoing the start",
            "running": "interrupted: stopping the command and saving the work",
            "saving": "interrupted: the work is being saved",
        }[self._phase]
        say(f"{what} (Ctrl-C again leaves at once)")

    def _leave(self) -> None:
        """End this process now: what it holds is released by the kernel, and the journal knows the machine."""
        machine = self._outcome.name or self._gm.id
        kept = f"the machine {machine} is recorded and keeps the work"
        if self._phase == "starting":
            kept = "the start was not undone, and what there is of it is recorded"
        say(f"left at once: {kept}")
        os._exit(Exit.INTERRUPTED)
