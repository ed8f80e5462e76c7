"""What guards a machine: its state as we know it, who may pass, deadlines, and errors in our terms."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gitmachine.clock import PausableClock
from gitmachine.errors import (
    CommandTimeoutError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
)
from gitmachine.machine import Capability, Machine, MachineState
from gitmachine.machines.answers import shown
from gitmachine.machines.calls import DeadlineError, bounded, in_our_terms, progressing
from gitmachine.machines.commands import RunningCommands
from gitmachine.machines.gate import Gate
from gitmachine.machines.transitions import OPERATIONS_NEED, Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gitmachine.clock import Limit

__all__ = ["GuardedMachine"]

T = TypeVar("T")
MachineErrorT = TypeVar("MachineErrorT", bound=MachineError)

_LOST = "the machine was lost"


class GuardedMachine(Machine):
    """The part of `ManagedMachine` that every operation goes through; `ManagedMachine` adds the operations."""

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
        self._copying = asyncio.Lock()  # taken after `_transition`, never before it
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
        if self._lost is not None:
            return MachineState.STOPPED
        state: object = self._inner.state
        if not isinstance(state, MachineState):
            what = f"the state of the {self.provider} machine is {shown(state)}, and has to be a MachineState"
            raise self._error(MachineError, what, "state")
        return state

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

    @property
    def ports_last(self) -> bool:  # type: ignore[override]  # as for `provider`
        """Whether what `get_host` returns outlives this process."""
        return self._inner.ports_last

    # Guards

    async def _ready(self, operation: str, *, changes: bool = False) -> None:
        """Let an operation through that needs a running machine; `changes` ones are refused at a closed gate."""
        if self._transition.locked():
            async with self._transition:
                pass
        self._check(operation, changes=changes)

    def _check(self, operation: str, *, changes: bool) -> None:
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
        loses: bool = True,
    ) -> T:
        """Await a call to the machine; one that does not answer in time is lost by that, unless told otherwise."""
        try:
            return await bounded(call, seconds, clock=clock or self._clock, cancel_seconds=self._deadlines.cancel)
        except DeadlineError as error:
            reason = f"the {self.provider} machine did not {operation} within {seconds:g} s"
            if operation == "start":
                raise self._error(MachineStartError, reason, operation) from error
            if not loses:
                raise self._error(MachineError, f"{reason}: it goes on without", operation) from error
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

    async def _move(self, operation: str, call: Coroutine[Any, Any, T], path: str) -> T:
        """Await a transfer: the machine is lost when nothing goes on for the time of a file operation.

        As a command it is ended by a stop, with InvalidStateError.
        """
        seconds, limit = self._deadlines.files, self._clock.limit(None)
        self._commands.enter(limit, permitted=self.gate.permitted)
        try:
            async with limit:
                return await progressing(call, seconds, clock=self._clock, cancel_seconds=self._deadlines.cancel)
        except DeadlineError as error:
            reason = f"the {self.provider} machine did not go on with {operation} {path!r} for {seconds:g} s"
            self._lose(reason)
            raise self._error(MachineLostError, reason, operation) from error
        except Exception as error:
            ours = self._command_error(error, limit, None, operation, path=path)
            if ours is error:
                raise
            raise ours from error
        finally:
            self._commands.leave(limit)

    def _command_error(
        self, error: Exception, limit: Limit, timeout: float | None, operation: str = "execute", path: str | None = None
    ) -> Exception:
        """Return what whoever waits for a command, or for a transfer, gets instead of this error."""
        what = "the command" if operation == "execute" else f"the {operation}"
        if limit.expired() and not isinstance(error, CommandTimeoutError):
            if self._lost is not None:
                return self._error(MachineLostError, f"{_LOST}: {self._lost}", operation)
            if limit.reason is not None:
                return self._error(InvalidStateError, f"{what} was ended because {limit.reason}", operation)
            reason = (
                f"the {self.provider} machine did not end a command within {self._deadlines.execute_margin:g} s "
                f"after its timeout of {timeout or 0:g} s"
            )
            self._lose(reason)
            return self._error(MachineLostError, reason, operation)
        if isinstance(error, MachineLostError):
            if self._stopping or not self._alive:
                return self._error(InvalidStateError, f"{what} was ended because the machine is stopping", operation)
            self._lose(str(error))
        return in_our_terms(error, self._inner, operation, path=path)

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
