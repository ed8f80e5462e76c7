"""A plugin host that remembers each call of a hook: which, of whom, with what, and what came of it."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.plugins.host import Implementation, PluginHost

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HookCall", "RecordingHost"]


@attrs.define(kw_only=True)
class HookCall:
    """One call of one plugin's implementation of a hook.

    Attributes:
        hook: the hook's name.
        plugin: the plugin's name.
        arguments: what the implementation was given, by name; only what it takes.
        answer: what it returned; None while it has not.
        error: what it raised, or None.
        ended: whether it has returned or raised.
        thread: the name of the thread it was called on.
    """

    hook: str
    plugin: str
    arguments: dict[str, Any]
    answer: Any = None
    error: BaseException | None = None
    ended: bool = False
    thread: str = attrs.field(factory=lambda: threading.current_thread().name)


class RecordingHost(PluginHost):
    """A host whose `calls` are every call of a hook, in the order in which they began. Takes the same arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[HookCall] = []

    def implementations(self, hook: str) -> tuple[Implementation, ...]:
        """Return a hook's implementations in calling order, each with a recorder around it."""
        return tuple(self._recorded(hook, found) for found in super().implementations(hook))

    def _recorded(self, hook: str, found: Implementation) -> Implementation:
        """Wrap one, ``async def`` in ``async def`` and ``def`` in ``def``, because they are called differently."""
        function = found.function

        def begin(positional: tuple[Any, ...], named: dict[str, Any]) -> HookCall:
            given = {**dict(zip(found.argnames, positional, strict=True)), **named}
            call = HookCall(hook=hook, plugin=found.plugin, arguments=given)
            self.calls.append(call)
            return call

        async def recorded_async(*positional: Any, **named: Any) -> Any:
            call = begin(positional, named)
            return await _awaited(call, function(*positional, **named))

        def recorded(*positional: Any, **named: Any) -> Any:
            call = begin(positional, named)
            try:
                call.answer = function(*positional, **named)
            except BaseException as error:
                call.error = error
                raise
            finally:
                call.ended = True
            # A def may return an awaitable, which the caller awaits: its outcome is the call's.
            return _awaited(call, call.answer) if inspect.isawaitable(call.answer) else call.answer

        wrapper: Callable[..., Any] = recorded_async if _is_async(function) else recorded
        return attrs.evolve(found, function=wrapper)


async def _awaited(call: HookCall, answer: Any) -> Any:
    call.ended = False
    try:
        call.answer = await answer
    except BaseException as error:
        call.error = error
        raise
    finally:
        call.ended = True
    return call.answer


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # an object with an async __call__
