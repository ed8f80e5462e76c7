"""Call hooks, in four modes; nothing else does.

pluggy's own call loop is synchronous, stops at the first error and does not say which plugin answered; a coroutine
that would answer "pass" looks to it like an answer. So the implementations are walked here, in pluggy's order.

collect
    every answer, with the plugin's name; an error is recorded against its plugin and the others go on.
decide
    the first answer that is not None; an error is raised as `HookError` naming plugin and hook.
step
    each in order; an error aborts (or, with `run_all`, is raised after all have run). GitMachine's own errors, such
    as `CommitRejected`, go through as they are: they are how a plugin vetoes. In `refine` an answer replaces an
    argument for whoever comes next.
notify
    each; an error is logged with the plugin's name and kept in `hook_failures`.

Each implementation has a deadline, the host's `hook_timeout`; to be late is an error like any other. So an answer that
does not come in time is a veto: what was to be decided does not happen.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from gitmachine.errors import GitMachineError, HookError
from gitmachine.plugins.deadlines import LateError, ended_within
from gitmachine.plugins.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gitmachine.events import Event
    from gitmachine.plugins.host import Implementation, PluginHost

__all__ = ["Answer", "Dispatcher", "HookFailure", "call_now"]

MAX_FAILURES = 100
"""How many of the last failures are kept."""

OBSERVE_SECONDS = 600.0
"""How long an implementation may take at most whose answer stops nothing (collect, notify)."""

LOAD_SECONDS = 30.0
"""How long a coroutine may take that is called while plugins are loaded."""

_T = TypeVar("_T")

_log = logging.getLogger("gitmachine.plugins")


@attrs.frozen
class Answer:
    """What one plugin answered."""

    plugin: str
    value: Any


@attrs.frozen(kw_only=True)
class HookFailure:
    """An error in a hook or callback that did not stop the operation.

    Attributes:
        plugin: the plugin's name, or the callback's, such as ``on_event``.
        hook: what was called.
        error: type and message, redacted.
        traceback: its text, redacted.
        time: when (UTC).
    """

    plugin: str
    hook: str
    error: str
    traceback: str = attrs.field(repr=False)
    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))


class Dispatcher:
    """Calls the hooks of one GitMachine.

    ``def`` implementations run each on a thread of its own, ``async def`` ones on the loop.

    Args:
        host: where the implementations are.
        run_sync: runs a blocking callable and is awaited for its answer; None is `run_in_thread`.
        redact: takes secrets out of what is logged and kept of an error; None leaves it as it is.
        blocking_view: returns what a ``def`` implementation gets for the argument ``gm``; None is what all get.
    """

    def __init__(
        self,
        host: PluginHost,
        run_sync: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None,
        *,
        redact: Callable[[str], str] | None = None,
        blocking_view: Callable[[], object] | None = None,
    ) -> None:
        self.host = host
        self._blocking_view = blocking_view
        self._run_sync = run_sync or run_in_thread
        self._redact = redact or str
        self._failures: deque[HookFailure] = deque(maxlen=MAX_FAILURES)

    @property
    def hook_failures(self) -> tuple[HookFailure, ...]:
        """The last errors that were isolated, oldest first."""
        return tuple(self._failures)

    async def implemented(self, hook: str, /) -> bool:
        """Tell whether any plugin implements a hook."""
        return bool(await self._implementations(hook))

    def blame(self, plugin: str, hook: str, error: Exception) -> None:
        """Log and keep an error against a plugin, for an answer that cannot be used."""
        self._isolate(plugin, hook, error)

    async def collect(self, hook: str, /, **values: Any) -> list[Answer]:
        """Return every answer that is not None."""
        answers = []
        for implementation in await self._implementations(hook):
            try:
                value = await self._call(hook, implementation, values, OBSERVE_SECONDS)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  # any plugin's any error
                self._isolate(implementation.plugin, hook, error)
            else:
                if value is not None:
                    answers.append(Answer(implementation.plugin, value))
        return answers

    async def decide(self, hook: str, wanted: type[_T], /, **values: Any) -> _T | None:
        """Return the first answer that is not None, or None.

        Args:
            hook: the hook's name.
            wanted: what an answer has to be.
            values: the hook's arguments.

        Raises:
            HookError: an implementation raised, was late, or answered with something else, before one answered.
        """
        for implementation in await self._implementations(hook):
            try:
                value = await self._call(hook, implementation, values)
            except (Exception, SystemExit) as error:
                raise self._hook_error(implementation, hook, error) from error
            if value is None:
                continue
            if not isinstance(value, wanted):  # what it is stays out of the message: it may be a credential
                problem = TypeError(f"expected {wanted.__name__} or None, not {type(value).__name__}")
                raise self._hook_error(implementation, hook, problem)
            return value
        return None

    async def step(
        self, hook: str, /, *, run_all: bool = False, seconds: float | None = None, **values: Any
    ) -> list[Answer]:
        """Call each in order and return the answers that are not None.

        Args:
            hook: the hook's name.
            run_all: call the others too after one has raised, and raise at the end.
            seconds: how long each may take at most, if that is less than the host says.
            values: the hook's arguments.

        Raises:
            GitMachineError: what an implementation raised, as it is.
            HookError: any other error of an implementation, or it was late; with several errors, it lists them all.
        """
        answers: list[Answer] = []
        errors: list[GitMachineError] = []
        for implementation in await self._implementations(hook):
            try:
                value = await self._ours(hook, implementation, values, seconds)
            except GitMachineError as error:
                errors.append(error)
                if not run_all:
                    break
            else:
                if value is not None:
                    answers.append(Answer(implementation.plugin, value))
        if len(errors) > 1:
            listing = "; ".join(str(error) for error in errors)
            raise HookError(f"several plugins failed in {hook}: {listing}", plugin="several", hook=hook) from errors[0]
        if errors:
            raise errors[0]
        return answers

    async def refine(self, hook: str, argument: str, /, **values: Any) -> Any:
        """Call each in order, each with what the ones before it made of an argument, and return what comes of it.

        Raises:
            GitMachineError, HookError: as `step`; also when an answer is of another type than the argument.
        """
        wanted = type(values[argument])
        for implementation in await self._implementations(hook):
            value = await self._ours(hook, implementation, values, None)
            if value is None:
                continue
            if not isinstance(value, wanted):
                raise self._hook_error(implementation, hook, TypeError(f"expected {wanted.__name__}, not {value!r}"))
            values[argument] = value
        return values[argument]

    async def _ours(
        self, hook: str, implementation: Implementation, values: dict[str, Any], seconds: float | None
    ) -> Any:
        """Call an implementation; whatever it raises comes out as an error of ours."""
        try:
            return await self._call(hook, implementation, values, seconds)
        except GitMachineError:
            raise
        except (Exception, SystemExit) as error:
            raise self._hook_error(implementation, hook, error) from error
        except asyncio.CancelledError as error:
            if _cancelling():
                raise
            raise self._hook_error(implementation, hook, error) from error

    async def notify(self, hook: str, /, **values: Any) -> None:
        """Call each; no error of theirs is raised."""
        for implementation in await self._implementations(hook):
            try:
                await self._call(hook, implementation, values, OBSERVE_SECONDS)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  # isolated by contract
                self._isolate(implementation.plugin, hook, error)

    async def observe(self, event: Event, *callbacks: Callable[[], Any]) -> None:
        """Tell the plugins of an event, then the callbacks of this GitMachine; no error of theirs is raised.

        Args:
            event: what happened.
            callbacks: called on the loop, and awaited when they return an awaitable.
        """
        await self.notify(event.hook(), event=event)
        for callback in callbacks:
            await self.isolated("on_event", event.event, callback)

    async def isolated(self, name: str, hook: str, callback: Callable[[], Any]) -> None:
        """Call one callback and keep its error, if any, in `hook_failures`.

        Args:
            name: what the callback is called in messages, such as ``on_event``.
            hook: what it is called for.
            callback: called on the loop, and awaited when it returns an awaitable.
        """
        try:
            await _resolve(callback())
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  # isolated by contract
            self._isolate(name, hook, error)

    async def _implementations(self, hook: str) -> tuple[Implementation, ...]:
        if not self.host.loaded:
            await self._run_sync(self.host.load)  # imports read files: not on the loop
        return self.host.implementations(hook)

    async def _call(
        self, hook: str, implementation: Implementation, values: dict[str, Any], at_most: float | None = None
    ) -> Any:
        blocking = not _is_async(implementation.function)
        if blocking and self._blocking_view is not None and "gm" in implementation.argnames + implementation.kwargnames:
            values = {**values, "gm": self._blocking_view()}
        call = implementation.bind(values)
        began = time.perf_counter()
        try:
            value = await ended_within(
                self._seconds(at_most), call, on_thread=self._run_sync(call) if blocking else None
            )
        except BaseException as error:
            self._trace(implementation.plugin, hook, began, f"raised {type(error).__name__}")
            raise
        self._trace(implementation.plugin, hook, began, "passed" if value is None else "answered")
        return value

    def _seconds(self, at_most: float | None) -> float | None:
        limits = [limit for limit in (self.host.hook_timeout, at_most) if limit is not None]
        return min(limits, default=None)

    def _trace(self, plugin: str, hook: str, began: float, outcome: str) -> None:
        # Arguments and answers stay out of it: they hold credentials.
        if self.host.trace:
            milliseconds = (time.perf_counter() - began) * 1000
            sys.stderr.write(f"gitmachine: {hook} -> {plugin}: {outcome} ({milliseconds:.1f} ms)\n")

    def _isolate(self, plugin: str, hook: str, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and _cancelling():
            raise error  # we are cancelled ourselves; a plugin that raises it on its own only fails
        text = self._redact("".join(traceback.format_exception(error)))
        message = self._redact(_describe(error))
        self._failures.append(HookFailure(plugin=plugin, hook=hook, error=message, traceback=text))
        _log.error("%s failed in %s: %s\n%s", plugin, hook, message, text)

    def _hook_error(self, implementation: Implementation, hook: str, error: BaseException) -> HookError:
        report = implementation.report
        advice = ""
        if isinstance(error, LateError) and error.seconds == self.host.hook_timeout:
            advice = "; hook_timeout under [plugins] in the configuration says how long it may take"
        return HookError(
            self._redact(f"plugin {report.name!r} ({report.origin}) failed in {hook}: {_describe(error)}{advice}"),
            plugin=report.name,
            hook=hook,
            distribution=report.distribution,
            version=report.version,
        )


def _cancelling() -> bool:
    """Tell whether the current task is being cancelled, as opposed to a plugin that raises CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def call_now(implementation: Implementation, **values: Any) -> Any:
    """Call an implementation of a hook where no loop may be running, and return its answer.

    A coroutine is run to its end, within a deadline, by a loop of its own on a thread of its own.
    """
    value = implementation.bind(values)()
    if not inspect.isawaitable(value):
        return value
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(_resolve(value), LOAD_SECONDS)).result()


async def _resolve(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # an object with an async __call__


def _describe(error: BaseException) -> str:
    if isinstance(error, LateError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
