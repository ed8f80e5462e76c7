"""Which operation of a session may run when: a lock that is re-entrant for the operation's own callbacks.

An operation (start, pause, resume, stop, commit, push, pull) holds the session's lock. The callbacks and hooks that it
calls carry the context variable `_stack`, also into threads, so that their git verbs run inside the operation instead
of waiting for it, while a life-cycle call from there is refused at once. Events are delivered when the lock is free
again, so that an observer may act.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import InvalidStateError, StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from gitmachine.events import Event

__all__ = ["Operation", "Operations"]

LOCK_SECONDS = 600.0
"""How long an operation waits for another one of the same session."""


@attrs.define(eq=False)
class Operation:
    """One operation that is running, with the events it has not delivered yet."""

    name: str
    owner: Operations
    inner: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    active: bool = True
    pending: list[Event] = attrs.field(factory=list)

    def emit(self, event: Event) -> None:
        """Note an event; it is delivered by `flush` or at the operation's end."""
        self.pending.append(event)

    async def flush(self) -> None:
        """Deliver what was noted so far, in order, inside the operation."""
        while self.pending:
            await self.owner.deliver(self.pending.pop(0))


_stack: ContextVar[tuple[Operation, ...]] = ContextVar("gitmachine_operations", default=())
_commands: ContextVar[tuple[Operations, ...]] = ContextVar("gitmachine_commands", default=())


class Operations:
    """The lock of one session."""

    def __init__(self, deliver: Callable[[Event], Awaitable[None]]) -> None:
        self.deliver = deliver
        self._lock = asyncio.Lock()
        self._holder: str | None = None

    def inside(self) -> Operation | None:
        """Return the innermost running operation of this session that the caller is a callback of, or None."""
        for operation in reversed(_stack.get()):
            if operation.owner is self and operation.active:
                return operation
        return None

    @contextlib.contextmanager
    def command(self) -> Iterator[None]:
        """Mark what runs inside as belonging to a command (its output callbacks)."""
        token = _commands.set((*_commands.get(), self))
        try:
            yield
        finally:
            _commands.reset(token)

    def refuse_in_callback(self, name: str) -> None:
        """Raise when a life-cycle call comes from a callback that the call itself would have to wait for.

        Raises:
            InvalidStateError: names the operation whose callback is running.
        """
        outer = self.inside()
        if outer is not None:
            raise InvalidStateError(
                f"{name}() cannot be called from a callback or hook of {outer.name}(): call it once that has returned",
                operation=name,
            )
        if name in {"stop", "close"} and self in _commands.get():
            raise InvalidStateError(
                f"{name}() cannot be called from an output callback of a command: it would have to wait for itself",
                operation=name,
            )

    @contextlib.asynccontextmanager
    async def hold(self, name: str, *, lifecycle: bool = False) -> AsyncIterator[Operation]:
        """Run an operation alone; nested ones of its own callbacks run inside it, one at a time.

        Raises:
            InvalidStateError: a life-cycle operation from inside another operation's callback.
            StateError: the lock stayed taken; names by what.
        """
        if lifecycle:
            self.refuse_in_callback(name)
        outer = self.inside()
        lock = self._lock if outer is None else outer.inner
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                await lock.acquire()
        except TimeoutError as error:
            raise StateError(
                f"{name}() waited {LOCK_SECONDS:g} s for {self._holder}() to end", holder=self._holder
            ) from error
        operation = Operation(name=name, owner=self)
        previous, self._holder = self._holder, name
        token = _stack.set((*_stack.get(), operation))
        try:
            yield operation
        finally:
            _stack.reset(token)
            operation.active = False
            self._holder = previous
            lock.release()
            await asyncio.shield(operation.flush())
