"""The way from blocking code into asyncio: one event loop on one daemon thread, shared by every `GitMachine`.

It is shared because machines keep locks and connections that belong to a loop: a machine let go by one `GitMachine`
can be taken over by another. The thread starts with the first call and ends when nobody holds a `Lease` any more.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from gitmachine.errors import InvalidStateError
from gitmachine.plugins.deadlines import take_part
from gitmachine.plugins.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["GuestLease", "Lease", "adapt"]

CLEANUP_SECONDS = 60.0
"""How long an interrupted call waits for what it started to be cleaned up."""

EXIT_SECONDS = 5.0
"""How long the interpreter's exit waits for the loop to end."""

_P = ParamSpec("_P")
_T = TypeVar("_T")

_lock = threading.Lock()
_shared: _Portal | None = None


def adapt(
    callback: Callable[..., Any] | None, run: Callable[..., Awaitable[Any]] = run_in_thread
) -> Callable[..., Awaitable[Any]] | None:
    """Return the callback as a coroutine function that calls it on a thread; None stays None.

    Args:
        callback: a plain function; what it returns is awaited when that is an awaitable.
        run: calls a function with arguments on a thread.
    """
    if callback is None:
        return None

    async def adapted(*args: Any) -> Any:
        answer = await run(callback, *args)
        return await answer if inspect.isawaitable(answer) else answer

    return adapted


class Lease:
    """A share in the loop: while it is held, the loop stays the same one.

    It is held from the first call until `end`, which may be called from anywhere, a finalizer included. A call after
    that holds it again.
    """

    def __init__(self) -> None:
        self._portal: _Portal | None = None

    @classmethod
    def of(cls, owner: object) -> Self:
        """Return a new lease that ends at the latest when its owner is forgotten."""
        lease = cls()
        weakref.finalize(owner, lease.end).atexit = False
        return lease

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def hold(self) -> _Portal:
        """Take hold of the loop, unless that is done already.

        Raises:
            InvalidStateError: this process is a fork of the one that did.
        """
        portal = self._portal
        if portal is None:
            with _lock:
                portal = self._portal
                if portal is None:
                    portal = self._portal = _join()
        portal.check_process()
        return portal

    def call(self, func: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run ``func(*args, **kwargs)`` on the loop, wait for it, and return what it returns or raise what it raises.

        It runs with the caller's context variables. An exception in the waiting thread, such as KeyboardInterrupt,
        cancels it, waits (within a deadline) for its cleanup and goes on.

        Raises:
            InvalidStateError: a loop runs in this thread, so waiting would stop everything on it.
        """
        running = _running_loop()
        if running is not None:
            raise _refusal(func, running)
        portal = self.hold()
        while not portal.enter():
            self._portal = None  # ended in the same moment
            portal = self.hold()
        return _Call(portal, func, args, kwargs).answer()

    def end(self) -> None:
        """Let go of the loop; harmless when it is not held."""
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.leave_soon()


class GuestLease(Lease):
    """The way into a loop that somebody else runs, for as long as they do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._portal = _Guest(loop)

    def end(self) -> None:
        """Do nothing: the loop is not ours."""


def _join() -> _Portal:
    """Return the shared loop, with one user more; the caller has the lock."""
    global _shared  # noqa: PLW0603  # the one loop of this process
    if _shared is None or _shared.ended:
        _shared = _Portal()
    _shared.users += 1
    return _shared


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", "a call")


def _refusal(func: Callable[..., Any], running: asyncio.AbstractEventLoop) -> InvalidStateError:
    name = _name(func)
    if _shared is not None and running is _shared.loop:
        return InvalidStateError(
            f"{name}() was called on GitMachine's own event loop, where waiting for it would hang: call it from a "
            "plain function, which runs on a thread of its own",
            operation=name,
        )
    return InvalidStateError(
        f"{name}() of GitMachine was called inside a running event loop, which it would block: use AsyncGitMachine "
        "there, and await it",
        operation=name,
    )


class _Portal:
    """The loop and its thread. `users` counts the leases and the calls under way, under the lock."""

    def __init__(self) -> None:
        self.users = 0
        self.loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self.ended = False
        self._thread = threading.Thread(target=self._serve, name="gitmachine-loop", daemon=True)
        self._thread.start()

    def check_process(self) -> None:
        if self._process != os.getpid():
            raise InvalidStateError(
                "this GitMachine belongs to the process that this one was forked from: make another here, or take its "
                "machine over with GitMachine.connect()"
            )

    def enter(self) -> bool:
        """Count one user more, unless the loop has ended."""
        with _lock:
            if self.ended:
                return False
            self.users += 1
            return True

    def leave(self) -> None:
        """Count one user less, on the loop's thread; the last one ends the loop."""
        global _shared  # noqa: PLW0603  # the one loop of this process
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            self.ended = True
            if _shared is self:
                _shared = None
        self.loop.stop()

    def leave_soon(self) -> None:
        """Count one user less, from any thread. Takes no lock: a finalizer may interrupt whoever has it."""
        if self._process != os.getpid():
            return
        try:
            self.loop.call_soon_threadsafe(self.leave)
        except RuntimeError:
            return  # the loop is closed

    def shut_down(self) -> None:
        """End the loop although it has users, and wait for that within a deadline."""
        global _shared  # noqa: PLW0603  # the one loop of this process
        with _lock:
            self.ended = True
            if _shared is self:
                _shared = None
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            return  # the loop is closed
        self._thread.join(EXIT_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self.ended:
                try:
                    self.loop.run_forever()
                except (KeyboardInterrupt, SystemExit):
                    continue  # raised by one task, whose waiter has it too; the others go on
            self._cancel_everything()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _cancel_everything(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()

        async def settle() -> None:
            if tasks:
                await asyncio.wait(tasks, timeout=EXIT_SECONDS)
            await self.loop.shutdown_asyncgens()

        self.loop.run_until_complete(settle())


class _Guest(_Portal):
    """The loop of an `AsyncGitMachine`'s user: calls go there, and it ends when they end it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self.loop = loop
        self._process = os.getpid()

    @property
    def ended(self) -> bool:  # type: ignore[override]  # asked, not kept: nobody tells us
        """Whether the loop takes no more calls."""
        return self.loop.is_closed() or not self.loop.is_running()

    def enter(self) -> bool:
        """Let a call in.

        Raises:
            InvalidStateError: the loop does not run any more.
        """
        if self.ended:
            raise InvalidStateError(
                "the event loop of this session has ended: what a hook was given is of no use after the session"
            )
        return True

    def leave(self) -> None:
        """Do nothing: the loop ends with its owner."""


class _Call(Generic[_T]):
    """One coroutine on the loop, and the thread that waits for it."""

    def __init__(
        self,
        portal: _Portal,
        func: Callable[..., Coroutine[Any, Any, _T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._portal = portal
        self._name = _name(func)
        self._func = func
        self._args = args
        self._kwargs = kwargs
        self._task: asyncio.Task[None] | None = None
        self._result: _T | None = None
        self._error: BaseException | None = None
        # A bare lock wakes the waiter in half the time of a concurrent.futures.Future, and signals interrupt it.
        self._done = threading.Lock()
        self._done.acquire()

    def answer(self) -> _T:
        """Start the coroutine and wait for its end."""
        try:
            self._portal.loop.call_soon_threadsafe(self._begin)  # carries the caller's context variables
            self._done.acquire()
        except BaseException as interrupt:
            self._portal.loop.call_soon_threadsafe(self._cancel)
            if not self._done.acquire(timeout=CLEANUP_SECONDS):
                interrupt.add_note(f"{self._name}() was still cleaning up after {CLEANUP_SECONDS:g} s")
            elif self._error is not None and not isinstance(self._error, asyncio.CancelledError):
                interrupt.add_note(f"{self._name}() ended with {type(self._error).__name__}: {self._error}")
            raise
        if self._error is None:
            return self._result  # type: ignore[return-value]  # it is set when there is no error
        try:
            if isinstance(self._error, asyncio.CancelledError):
                raise InvalidStateError(f"{self._name}() was cancelled") from self._error
            raise self._error
        finally:
            self._error = None  # its traceback refers to this frame

    def _begin(self) -> None:
        self._task = self._portal.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            take_part()
            self._result = await self._func(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001  # all of it belongs to the waiting thread, not to the loop
            self._error = error
        finally:
            self._portal.leave()
            self._done.release()

    def _cancel(self) -> None:
        if self._task is None:
            self._portal.leave()
            self._done.release()
        else:
            self._task.cancel()


def _at_exit() -> None:
    if _shared is not None:
        _shared.shut_down()


def _forget() -> None:
    """Make a forked process start afresh: the loop's thread exists only in its parent."""
    global _lock, _shared
    _lock, _shared = threading.Lock(), None


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forget)
