"""What GitMachine puts around any machine: states, a lock, deadlines, errors in our terms, an end for its commands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import (
    CommandTimeoutError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
)
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Host, Machine, MachineState
from gitmachine.machines.calls import DeadlineError, bounded, in_our_terms
from gitmachine.machines.commands import LEAVE_SECONDS, RunningCommands
from gitmachine.machines.gate import Gate
from gitmachine.machines.guest import Guest
from gitmachine.machines.transitions import OPERATIONS_NEED, TRANSITIONS, Answer, Deadlines
from gitmachine.pump import kill_quietly

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gitmachine.clock import Limit
    from gitmachine.execution import ExecRequest, ExecResult, Process

__all__ = ["Deadlines", "ManagedMachine"]

T = TypeVar("T")
MachineErrorT = TypeVar("MachineErrorT", bound=MachineError)

_LOST = "the machine was lost"


class ManagedMachine(Machine):
    """Guards a machine, and is one itself.

    Commands and file operations run side by side. Transitions (start, pause, resume, stop) exclude each other; what is
    asked for while one is under way waits for its end and is then judged by the new state. A pause does not wait for
    commands: it freezes them, and their clocks with them. A stop ends them.

    A machine that does not answer within its deadline, or says that it is gone, is lost: its state is stopped, all its
    commands end with MachineLostError, and `on_lost` is called once with the reason.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        deadlines: Deadlines | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """Guard `machine`, which nobody else should call from now on."""
        self._inner = machine
        self._deadlines = deadlines or Deadlines()
        self._on_lost = on_lost
        self._transition = asyncio.Lock()
        self._clock = PausableClock()
        self._wall = PausableClock()  # never paused: transitions are not part of the machine's own time
        self._commands = RunningCommands()
        self._lost: str | None = None
        self._stopping = False
        self._alive = machine.state in {MachineState.RUNNING, MachineState.PAUSED}
        if machine.state is MachineState.PAUSED:
            self._clock.pause()
        self.gate = Gate()
        """Closed while the machine is being stopped: see `Gate`."""

    @property
    def inner(self) -> Machine:
        """The machine inside."""
        return self._inner

    @property
    def clock(self) -> PausableClock:
        """The machine's own time: it stands still while the machine is paused."""
        return self._clock

    @property
    def lost(self) -> str | None:
        """Why the machine counts as lost, or None."""
        return self._lost

    @property
    def id(self) -> str | None:
        """The provider's id of the machine inside."""
        return self._inner.id

    @property
    def state(self) -> MachineState:
        """The state; a lost machine is stopped."""
        return MachineState.STOPPED if self._lost is not None else self._inner.state

    @property
    def provider(self) -> str:  # type: ignore[override]  # a constant for a provider's class, here that of `inner`
        """The provider's name."""
        return self._inner.provider

    @property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]  # as for `provider`
        """What the machine can do."""
        return self._inner.capabilities

    @property
    def bulk_in(self) -> Literal["stream", "files"]:  # type: ignore[override]  # as for `provider`
        """How large input gets in cheaply."""
        return self._inner.bulk_in

    @property
    def workdir(self) -> str:  # type: ignore[override]  # as for `provider`
        """The directory that relative paths start from."""
        return self._inner.workdir

    # Transitions

    async def start(self) -> None:
        """Make the machine; no-op while it runs, a new one after stop.

        Raises:
            MachineStartError: it could not be started, or not in time.
            InvalidStateError: it is paused, or was lost and may still exist.
        """
        await self._change("start", self._start)

    async def pause(self) -> None:
        """Freeze the machine with its running commands; no-op unless it runs."""
        await self._change("pause", self._pause)

    async def resume(self) -> None:
        """Continue the machine; no-op unless it is paused."""
        await self._change("resume", self._resume)

    async def stop(self) -> None:
        """End every command, with InvalidStateError to whoever waits for it, and remove the machine."""
        await self._change("stop", self._stop)

    async def _change(self, operation: str, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._transition:  # whoever holds it has a deadline
            self._notice_end()
            answer = TRANSITIONS[operation][self.state]
            if answer is Answer.NOTHING:
                return
            if answer is Answer.REFUSE:
                raise self._wrong_state(operation)
            if operation in {"pause", "resume"}:
                self._need(Capability.PAUSE, operation)
            await change()

    async def _start(self) -> None:
        if self._lost is not None and self._inner.state not in {MachineState.IDLE, MachineState.STOPPED}:
            raise self._error(
                InvalidStateError,
                f"the machine was lost ({self._lost}) and may still exist: connect to it again, or make another one",
                "start",
            )
        await self._call("start", self._inner.start(), self._deadlines.start, clock=self._wall)
        self._lost, self._alive = None, True
        self._clock.resume()

    async def _pause(self) -> None:
        self._clock.pause()
        try:
            await self._call("pause", self._inner.pause(), self._deadlines.pause, clock=self._wall)
        finally:
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    async def _resume(self) -> None:
        try:
            await self._call("resume", self._inner.resume(), self._deadlines.resume, clock=self._wall)
        finally:
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    async def _stop(self) -> None:
        self._stopping = True
        try:
            ended = self._commands.expire("the machine is stopping")
            await self._call("stop", self._inner.stop(), self._deadlines.stop, clock=self._wall)
            self._alive = False
            await self._commands.gone(ended, LEAVE_SECONDS)
        finally:
            self._stopping = False
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end; an error of a callback or of the input comes through as it is.

        Raises:
            CommandTimeoutError: it was killed with all its children.
            InvalidStateError: the machine does not run, or it stopped and ended the command.
            MachineLostError: the machine is gone, or did not report the command's end.
        """
        await self._ready("execute", changes=True)
        if request.user is not None:
            self._need(Capability.USER, "run commands as another user")
        timeout = request.timeout
        limit = self._clock.limit(None if timeout is None else timeout + self._deadlines.execute_margin)
        guest = Guest(request, limit)
        token = command_clock.set(self._clock)
        self._commands.enter(limit, permitted=self.gate.permitted)
        try:
            async with limit:
                result = await self._inner.execute(guest.request)
        except Exception as error:  # whatever a provider raises: told apart in one place
            ours = error if error is guest.error else self._command_error(error, limit, timeout)
            if ours is error:
                raise
            raise ours from error
        finally:
            self._commands.leave(limit)
            command_clock.reset(token)
        await guest.deliver(result)
        return result

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command and return the live process; needs `Capability.SPAWN`."""
        self._need(Capability.SPAWN, "spawn")
        await self._ready("spawn", changes=True)
        if request.user is not None:
            self._need(Capability.USER, "run commands as another user")
        made: list[Process] = []

        async def spawn() -> Process:
            made.append(await self._inner.spawn(request))
            return made[0]

        try:
            process = await self._call("spawn", spawn(), self._deadlines.spawn)
        except BaseException:
            for process in made:  # it was started in the very moment that we were cancelled
                await kill_quietly(process)
            raise
        self._commands.add(process, permitted=self.gate.permitted)
        return process

    async def end_commands(self, grace_seconds: float) -> int:
        """End what runs without a permit of the gate: wait for its own end, then kill it; return how many were killed.

        Whoever waits for a killed command gets InvalidStateError. A paused machine is given no grace: nothing in it
        can end by itself.
        """
        grace = 0.0 if self._clock.paused else grace_seconds
        return await self._commands.end(grace, self.gate.reason or "its end was asked for")

    async def terminate_processes(self) -> None:
        """Kill what commands left behind; needs `Capability.QUIESCE`."""
        self._need(Capability.QUIESCE, "terminate_processes")
        await self._ready("terminate_processes")
        await self._call("terminate_processes", self._inner.terminate_processes(), self._deadlines.stop)

    # Files and ports

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        await self._ready("read_file")
        call = self._inner.read_file(path, max_bytes=max_bytes)
        return await self._call("read_file", call, self._deadlines.files, path=path)

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        await self._ready("write_file", changes=True)
        await self._call("write_file", self._inner.write_file(path, data), self._deadlines.files, path=path)

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        await self._ready("list_files")
        return await self._call("list_files", self._inner.list_files(path), self._deadlines.files, path=path)

    async def get_host(self, port: int) -> Host:
        """Return where a port can be reached; needs `Capability.PORTS`."""
        self._need(Capability.PORTS, f"get_host({port})")
        await self._ready("get_host")
        return await self._call("get_host", self._inner.get_host(port), self._deadlines.spawn)

    def hint(self, result: ExecResult) -> str | None:
        """Return the machine's advice about a command that failed."""
        return self._inner.hint(result)

    async def close(self) -> None:
        """Let go of the machine and leave it as it is."""
        async with self._transition:
            try:
                await bounded(
                    self._inner.close(),
                    self._deadlines.close,
                    clock=self._wall,
                    cancel_seconds=self._deadlines.cancel,
                )
            except DeadlineError as error:
                message = f"the {self.provider} machine was not let go within {self._deadlines.close:g} s"
                raise self._error(MachineError, message, "close") from error
            except Exception as error:  # whatever a provider raises: put in our terms
                ours = in_our_terms(error, self._inner, "close")
                if ours is error:
                    raise
                raise ours from error

    # Guards

    async def _ready(self, operation: str, *, changes: bool = False) -> None:
        """Let an operation through that needs a running machine; `changes` ones are refused at a closed gate."""
        if self._transition.locked():
            async with self._transition:
                pass
        self._notice_end()
        if self._lost is not None:
            raise self._error(MachineLostError, f"{_LOST}: {self._lost}", operation)
        if self.state is not MachineState.RUNNING:
            raise self._wrong_state(operation)
        refusal = self.gate.refusal() if changes else None
        if refusal is not None:
            raise self._error(InvalidStateError, f"cannot {operation}: {refusal}", operation)

    def _need(self, capability: Capability, operation: str) -> None:
        if capability not in self._inner.capabilities:
            raise self._inner.unsupported(operation, capability)

    def _notice_end(self) -> None:
        if self._alive and self._lost is None and self._inner.state in {MachineState.IDLE, MachineState.STOPPED}:
            self._lose("it ended by itself")

    async def _call(
        self,
        operation: str,
        call: Coroutine[Any, Any, T],
        seconds: float,
        *,
        path: str | None = None,
        clock: PausableClock | None = None,
    ) -> T:
        try:
            return await bounded(call, seconds, clock=clock or self._clock, cancel_seconds=self._deadlines.cancel)
        except DeadlineError as error:
            reason = f"the {self.provider} machine did not {operation} within {seconds:g} s"
            if operation == "start":
                raise self._error(MachineStartError, reason, operation) from error
            self._lose(reason)
            raise self._error(MachineLostError, reason, operation) from error
        except MachineLostError as error:
            if operation == "stop" or not self._stopping:
                self._lose(str(error))
            raise
        except Exception as error:
            ours = in_our_terms(error, self._inner, operation, path=path)
            if ours is error:
                raise
            raise ours from error

    def _command_error(self, error: Exception, limit: Limit, timeout: float | None) -> Exception:
        """Return what whoever waits for a command gets instead of this error."""
        if limit.expired() and not isinstance(error, CommandTimeoutError):
            if self._lost is not None:
                return self._error(MachineLostError, f"{_LOST}: {self._lost}", "execute")
            if limit.reason is not None:
                return self._error(InvalidStateError, f"the command was ended because {limit.reason}", "execute")
            reason = (
                f"the {self.provider} machine did not end a command within {self._deadlines.execute_margin:g} s "
                f"after its timeout of {timeout or 0:g} s"
            )
            self._lose(reason)
            return self._error(MachineLostError, reason, "execute")
        if isinstance(error, MachineLostError):
            if self._stopping or not self._alive:
                return self._error(
                    InvalidStateError, "the command was ended because the machine is stopping", "execute"
                )
            self._lose(str(error))
        return in_our_terms(error, self._inner, "execute")

    def _lose(self, reason: str) -> None:
        if self._lost is not None or not self._alive:
            return
        self._lost, self._alive = reason, False
        self._clock.resume()
        self._commands.expire(reason)
        if self._on_lost is not None:
            self._on_lost(reason)

    def _wrong_state(self, operation: str) -> InvalidStateError:
        state = self.state
        return self._error(
            InvalidStateError,
            f"cannot {operation}: the machine is {state.value}: call {OPERATIONS_NEED[state]} first",
            operation,
        )

    def _error(self, cls: type[MachineErrorT], message: str, operation: str) -> MachineErrorT:
        return cls(message, machine_id=self.id, provider=self.provider, operation=operation)
