"""Run blocking callables on threads of their own.

Never on the loop's default executor: its few threads are all taken when callbacks nest, and the innermost then waits
for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

__all__ = ["OrderedThread", "run_in_thread"]

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_numbers = itertools.count(1)
_END: Any = object()


async def run_in_thread(func: Callable[..., _Answer], /, *args: object, name: str = "gitmachine-callback") -> _Answer:
    """Call ``func(*args)`` on a fresh daemon thread and return its answer, or raise what it raised.

    The caller's context variables are copied to the thread. A cancelled wait ends at once; the thread, which cannot be
    interrupted, goes on to its end and its answer is dropped.
    """
    job = _Job(func, args)
    threading.Thread(target=job.work, name=f"{name}-{next(_numbers)}", daemon=True).start()
    return await job.future


class OrderedThread:
    """One thread for many calls, each awaited: they run in order, and a slow one holds its caller back.

    The thread starts with the first call and ends after the ``with`` block.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._jobs.put(None)  # not joined: a cancelled call may still be in the callback, which cannot be interrupted

    async def call(self, func: Callable[..., _Answer], /, *args: object) -> _Answer:
        """Call ``func(*args)`` on the thread, with the caller's context variables; from one loop only."""
        if self._thread is None:
            name = f"{self._name}-{next(_numbers)}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        job = _Job(func, args)
        self._jobs.put(job)
        return await job.future

    async def iterate(self, items: Iterable[_Item]) -> AsyncIterator[_Item]:
        """Yield the items of a blocking iterable, each fetched on the thread when it is wanted."""
        iterator = await self.call(iter, items)
        while (item := await self.call(next, iterator, _END)) is not _END:
            yield item

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.work()
            del job  # or its arguments would live until the next one comes


class _Job(Generic[_Answer]):
    """A call on another thread and the future of its answer; made on the loop that waits."""

    def __init__(self, func: Callable[..., _Answer], args: tuple[object, ...]) -> None:
        self._func = func
        self._args = args
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[_Answer] = self._loop.create_future()

    def work(self) -> None:
        """Make the call, on the thread."""
        answer: _Answer | None = None
        error: BaseException | None = None
        try:
            answer = self._context.run(self._func, *self._args)
        except StopIteration as stop:
            # A future refuses it, since it would end the waiting coroutine as if it had returned.
            error = RuntimeError(f"{self._func!r} raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001  # whatever it is belongs to the one who waits
            error = raised
        try:
            self._loop.call_soon_threadsafe(self._deliver, answer, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _deliver(self, answer: _Answer | None, error: BaseException | None) -> None:
        if self.future.done():
            return  # nobody waits any more
        if error is None:
            self.future.set_result(answer)  # type: ignore[arg-type]  # it is func's answer when there is no error
        else:
            self.future.set_exception(error)
