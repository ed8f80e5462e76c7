"""The user's part in one command (callbacks, input), told apart from the machine's own doings."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from gitmachine.clock import Limit
    from gitmachine.execution import ExecRequest, ExecResult

__all__ = ["Guest"]

_CALLBACKS = ("on_stdout", "on_stderr", "on_stdout_bytes", "on_stderr_bytes")


class Guest:
    """Wraps what the user gave: remembers its error, and lets the machine's limit stand still while it is busy."""

    def __init__(self, request: ExecRequest, limit: Limit) -> None:
        self._limit = limit
        self._called: set[str] = set()
        self.error: Exception | None = None
        """What a callback or the input raised: to be raised as it is."""
        self._given: dict[str, Callable[[Any], Awaitable[None] | None]] = {
            name: callback for name in _CALLBACKS if (callback := getattr(request, name)) is not None
        }
        changes: dict[str, Any] = {name: self._wrapped(name) for name in self._given}
        if isinstance(request.stdin, AsyncIterable):
            changes["stdin"] = self._input(request.stdin)
        self.request = attrs.evolve(request, **changes) if changes else request
        """The request to hand to the machine."""

    async def deliver(self, result: ExecResult) -> None:
        """Hand the output to callbacks that the machine never called: live output is more than some can do."""
        for name in self._given.keys() - self._called:
            stream = "stdout" if "stdout" in name else "stderr"
            output = getattr(result, f"{stream}_bytes" if name.endswith("bytes") else stream)
            if output:
                answer = self._given[name](output)
                if inspect.isawaitable(answer):
                    await answer

    def _wrapped(self, name: str) -> Callable[[Any], Awaitable[None] | None]:
        callback = self._given[name]

        def call(data: Any) -> Awaitable[None] | None:
            # Called at once, not when awaited: a simple machine may not expect anything to await.
            self._called.add(name)
            try:
                with self._held():
                    answer = callback(data)
            except Exception as error:
                self.error = self.error or error
                raise
            return self._awaited(answer) if inspect.isawaitable(answer) else None

        return call

    async def _awaited(self, answer: Awaitable[None]) -> None:
        try:
            with self._held():
                await answer
        except Exception as error:
            self.error = self.error or error
            raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # A simple machine may call from a thread of its own; timers belong to the loop's.
            yield
            return
        self._limit.hold()
        try:
            yield
        finally:
            self._limit.release()

    async def _input(self, source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in source:
                yield chunk
        except Exception as error:
            self.error = self.error or error
            raise
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
