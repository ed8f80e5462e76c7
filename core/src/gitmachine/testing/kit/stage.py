"""What a behaviour works with: a machine, and short ways to run, watch and wait."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from typing import TYPE_CHECKING, Any

from gitmachine.errors import CommandTimeoutError, MachineError, MachineFileNotFoundError
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.machine import Capability, Machine, MachineState
from gitmachine.machines.managed import Deadlines, ManagedMachine
from gitmachine.testing.kit.behaviour import ConformanceFailure, NotApplicable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from gitmachine.testing.kit.base import KitBase

__all__ = ["NAP", "POLL_SECONDS", "Stage", "await_file", "script_request", "shown"]

POLL_SECONDS = 0.02
_WINDOWS = 3
NAP = "{ sleep 0.05 2>/dev/null || sleep 1; }"
"""A short wait in a script; only whole seconds are portable."""


def await_file(name: str) -> str:
    """Return a script that waits until a file exists."""
    return f"until [ -e {name} ]; do {NAP}; done"


def script_request(text: str, **fields: Any) -> ExecRequest:
    """Return the request to run a script."""
    return ExecRequest(shell=text, **fields)


def shown(data: bytes | str, limit: int = 120) -> str:
    """Return data for a message, shortened."""
    text = repr(data)
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]} ({len(data)} long)"


class Stage:
    """One behaviour's machine.

    Attributes:
        kit: the author's class.
        patience: seconds to wait for what has to happen.
        raw: the machine as the author made it.
        machine: the same, guarded as GitMachine guards it.
    """

    def __init__(self, kit: KitBase) -> None:
        self.kit = kit
        self.patience = kit.patience
        self.raw: Machine
        self.machine: ManagedMachine
        self._made: list[tuple[Machine, ManagedMachine]] = []
        self._killed: set[int] = set()

    async def open(self, *, started: bool) -> None:
        """Make the machine, and start it."""
        self.raw, self.machine = await self.another()
        if started:
            await self.machine.start()

    async def another(self) -> tuple[Machine, ManagedMachine]:
        """Make one more machine; it is stopped at the end of the behaviour, as the first one is."""
        raw = await self.kit.make_machine()
        return raw, self.adopt(raw)

    def adopt(self, raw: Machine) -> ManagedMachine:
        """Guard a machine and stop it at the end of the behaviour."""
        seconds = self.patience
        deadlines = Deadlines(
            start=max(seconds, 300),
            execute_margin=min(max(seconds / 3, 5), 30),
            pause=seconds,
            resume=seconds,
            stop=max(seconds, 60),
            files=seconds,
            spawn=seconds,
            copy=max(seconds, 300),
        )
        managed = ManagedMachine(raw, deadlines=deadlines)
        self._made.append((raw, managed))
        return managed

    async def close(self) -> None:
        """Stop every machine that was made."""
        errors = []
        for raw, managed in self._made:
            try:
                await self._stop(raw, managed)
            except MachineError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _stop(self, raw: Machine, managed: ManagedMachine) -> None:
        if id(raw) not in self._killed:
            if managed.state is MachineState.PAUSED:
                await managed.resume()
            await managed.stop()
        if raw.state in {MachineState.RUNNING, MachineState.PAUSED}:  # lost in the eyes of its guard
            with contextlib.suppress(MachineError, TimeoutError):
                async with asyncio.timeout(self.patience):
                    await raw.stop()

    async def kill(self) -> None:
        """End the machine behind its client's back."""
        await self.kit.kill_machine(self.raw)
        self._killed.add(id(self.raw))

    # Commands

    async def sh(self, script: str, *arguments: str, on: Machine | None = None, **fields: Any) -> ExecResult:
        """Run a script, on this machine or another; one that does not end is a failure, not a wait."""
        if arguments:
            return await self.run(["sh", "-c", script, "sh", *arguments], **fields)
        return await self._execute(ExecRequest(shell=script, **{"timeout": self.patience, **fields}), on)

    async def run(self, argv: Sequence[str], **fields: Any) -> ExecResult:
        """Run a program."""
        return await self._execute(ExecRequest(argv=list(argv), **{"timeout": self.patience, **fields}))

    async def _execute(self, request: ExecRequest, on: Machine | None = None) -> ExecResult:
        try:
            return await (on or self.machine).execute(request)
        except CommandTimeoutError as error:
            if request.timeout != self.patience:
                raise
            raise ConformanceFailure(
                f"the command did not end within {self.patience:g} s: {shown(' '.join(request.command))}; "
                f"its output: {shown(error.result.stdout)} {shown(error.result.stderr)}"
            ) from error

    async def good(self, script: str, *arguments: str, **fields: Any) -> str:
        """Run a script that has to succeed; return its output."""
        result = await self.sh(script, *arguments, **fields)
        if result.exit_code != 0:
            raise ConformanceFailure(
                f"a script that should succeed exited with {result.exit_code}: {shown(script)}; "
                f"stdout {shown(result.stdout)}, stderr {shown(result.stderr)}"
            )
        return result.stdout

    @contextlib.asynccontextmanager
    async def running(self, work: Awaitable[Any]) -> AsyncIterator[asyncio.Future[Any]]:
        """Let something go on beside the body; it is cancelled at the end."""
        task = asyncio.ensure_future(work)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=self.patience)
            if task.done() and not task.cancelled():
                task.exception()

    # Watching

    def path(self, name: str) -> str:
        """Return the absolute path of a name in the working directory."""
        return posixpath.join(self.machine.workdir, name)

    async def signal(self, name: str) -> None:
        """Make a file that a script waits for."""
        await self.machine.write_file(self.path(name), b"x")

    async def size(self, name: str) -> int:
        """Return the size of a file, 0 while it does not exist."""
        try:
            return len(await self.machine.read_file(self.path(name)))
        except MachineFileNotFoundError:
            return 0

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + self.patience
        while not await condition():
            if time.monotonic() > deadline:
                raise ConformanceFailure(f"within {self.patience:g} s it did not happen that {what}")
            await asyncio.sleep(POLL_SECONDS)

    async def within(self, what: str, work: Awaitable[Any]) -> Any:
        """Await something that has to end."""
        try:
            async with asyncio.timeout(self.patience) as limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ConformanceFailure(f"within {self.patience:g} s it did not happen that {what}") from error

    async def grows(self, name: str) -> None:
        """Wait until a file that a script keeps writing to has grown."""
        before = await self.size(name)

        async def grown() -> bool:
            return await self.size(name) > before

        await self.until(f"{name} grows", grown)

    async def still(self, name: str, what: str) -> None:
        """Fail when a file that a script was writing to goes on growing.

        One more line may come: a process that is killed in the middle of a system call ends when that returns.
        """
        before = await self.size(name)
        for _ in range(_WINDOWS):
            await asyncio.sleep(self.kit.quiet_seconds)
            after = await self.size(name)
            if after == before:
                return
            before = after
        raise ConformanceFailure(what)

    def need(self, *capabilities: Capability) -> None:
        """Leave the behaviour unless the machine declares these."""
        missing = [capability.value for capability in capabilities if capability not in self.raw.capabilities]
        if missing:
            raise NotApplicable(f"the machine does not declare {', '.join(missing)}")
