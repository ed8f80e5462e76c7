"""What a machine holds of one sandbox while it uses it: connections, the commands that run, its life extended."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING

from gitmachine import InvalidStateError, MachineLostError, MachineUnreachableError
from gitmachine.machines.channel import freeze_script, kill_script, machine_mark, thaw_script
from gitmachine_e2b._content import Content
from gitmachine_e2b._errors import PROBLEMS, PROVIDER, Broken, Refusal, machine_error
from gitmachine_e2b._lifetime import Lifetime
from gitmachine_e2b._scripts import SYNC
from gitmachine_e2b._shell import run_as_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from gitmachine import GitMachineError
    from gitmachine_e2b._api import ControlPlane
    from gitmachine_e2b._envd import Envd
    from gitmachine_e2b._process import E2BProcess

MACHINE_MARK = machine_mark("e2b")
"""Every sandbox has processes of its own, also one that is a copy of another: one mark does for all."""
FROZEN = "/tmp/.gitmachine-frozen"  # noqa: S108  # in the sandbox, whose /tmp is nobody else's
KILL_SECONDS = 10.0
STATE_SECONDS = 15.0
SYNC_SECONDS = 10.0
INPUT_SECONDS = 2.0


class Link:
    """A running sandbox, as one event loop uses it."""

    def __init__(
        self,
        api: ControlPlane,
        envd: Envd,
        *,
        workdir: str,
        timeout: int,
        on_expiry: Callable[[datetime], None] | None = None,
        on_paused: Callable[[], None] | None = None,
    ) -> None:
        self.api = api
        self.id = envd.address.sandbox_id
        self.loop = asyncio.get_running_loop()
        self.lifetime = Lifetime(api, self.id, timeout, on_expiry)
        self.processes: set[E2BProcess] = set()
        self._on_paused = on_paused
        self._closed = False
        self.use(envd, workdir)

    def use(self, envd: Envd, workdir: str) -> None:
        """Use these connections to the daemon from now on; none survives a pause."""
        self.envd = envd
        self.content = Content(envd, workdir, self.id)

    async def close(self, why: str) -> None:
        """Let go of the sandbox: commands that are followed go on without."""
        self._closed = True
        await self.lifetime.stop()
        for process in list(self.processes):
            await process.abandon(why)
        self.processes.clear()
        await self.envd.close()
        await self.api.close()

    # Problems

    async def explain(self, problem: Exception, operation: str) -> GitMachineError:
        """Return a problem as one of GitMachine's errors, having asked for the sandbox's state where that decides."""
        doubtful = isinstance(problem, Broken) or (
            isinstance(problem, Refusal) and (problem.sandbox_gone or problem.unreachable)
        )
        if not doubtful:
            return machine_error(problem, self.id, operation)
        reason = problem.reason if isinstance(problem, Broken) else str(problem)
        state = await self._state()
        if state == "gone":
            return self._error(MachineLostError, f"the E2B sandbox {self.id!r} has ended ({reason})", operation)
        if state == "paused":
            if self._on_paused is not None:
                self._on_paused()
            message = f"the E2B sandbox {self.id!r} was paused, by its timeout or by somebody else: call resume()"
            return self._error(InvalidStateError, message, operation)
        known = "it runs" if state == "running" else "its state is not known"
        doubt = "; what was asked may have been done" if isinstance(problem, Broken) and problem.sent else ""
        return self._error(
            MachineUnreachableError,
            f"the E2B sandbox {self.id!r} cannot be reached, though {known}: {reason}{doubt}"
            if state
            else f"the E2B sandbox {self.id!r} cannot be reached, and {known}: {reason}{doubt}",
            operation,
        )

    def _error(self, cls: type[GitMachineError], message: str, operation: str) -> GitMachineError:
        return cls(message, machine_id=self.id, provider=PROVIDER, operation=operation)  # type: ignore[call-arg]  # machine errors all take these

    async def _state(self) -> str:
        """Return ``running``, ``paused``, ``gone``, or nothing when it cannot be found out. Wakes nobody."""
        try:
            async with asyncio.timeout(STATE_SECONDS):
                return (await self.api.get(self.id)).state
        except Refusal as refusal:
            return "gone" if refusal.status == 404 else ""
        except (*PROBLEMS, TimeoutError):
            return ""

    # Commands

    def watch(self, process: E2BProcess) -> None:
        """Keep a command, for as long as its stream is open."""
        self.processes = {known for known in self.processes if known.following}
        self.processes.add(process)

    async def kill(self, mark: str) -> None:
        """Kill every process that carries a mark, with all that belongs to it; quietly, for it may be gone."""
        with contextlib.suppress(*PROBLEMS):
            if not self._closed:
                await run_as_root(self.envd, kill_script(mark), seconds=KILL_SECONDS)

    async def terminate(self) -> None:
        """Kill what commands started."""
        await run_as_root(self.envd, kill_script(MACHINE_MARK))

    # Pauses

    async def freeze(self) -> list[E2BProcess]:
        """Stop what commands are doing, read all that they wrote, and let go of their streams; `thaw` undoes it.

        A pause cuts the streams, and what is written while nobody listens is thrown away: so nothing may be under way
        then. Returns the commands that go on afterwards.
        """
        followed = [process for process in self.processes if process.following]
        running = [process for process in followed if not process.over]
        try:
            if running:
                await self._quiet(running)
        except BaseException:
            for process in running:
                process.release_input()
            raise
        for process in followed:
            await process.detach()
        self.processes.clear()
        return [process for process in running if not process.over]

    async def _quiet(self, running: list[E2BProcess]) -> None:
        """Stop the processes of commands and read what they wrote; who cannot be read to the end is given up."""
        value = secrets.token_hex(4)
        await asyncio.gather(*(process.hold_input(INPUT_SECONDS) for process in running))
        arguments = [
            word
            for process in running
            for word in (str(process.pid), process.token, value, "tty" if process.terminal else "-")
        ]
        await run_as_root(self.envd, freeze_script(MACHINE_MARK, FROZEN))
        # Whoever is not read holds the writer up: this ends when everything is read.
        sync = asyncio.ensure_future(run_as_root(self.envd, SYNC, *arguments, seconds=SYNC_SECONDS))
        waits = {asyncio.ensure_future(process.synced(value)): process for process in running}
        try:
            await asyncio.wait(waits, timeout=SYNC_SECONDS)
        finally:
            for task in (sync, *waits):
                task.cancel()
            await asyncio.gather(sync, *waits, return_exceptions=True)
        for wait, process in waits.items():
            if wait.cancelled():
                await process.abandon("its output could not be read to the end before the pause")

    async def thaw(self, frozen: list[E2BProcess]) -> None:
        """Follow commands again, then let them go on; also what an earlier client of the sandbox has stopped."""
        for process in frozen:
            try:
                await process.reattach(self.envd)
                self.processes.add(process)
            except PROBLEMS as problem:
                await process.abandon(f"it could not be found after the pause: {problem}")
            finally:
                process.release_input()
        await run_as_root(self.envd, thaw_script(FROZEN))
