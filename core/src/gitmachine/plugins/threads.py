"""Run a blocking callable on a thread of its own.

Never the loop's default executor: its few threads are all taken when callbacks nest, and the innermost then waits for
ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_thread"]

_Answer = TypeVar("_Answer")
_numbers = itertools.count(1)


async def run_in_thread(func: Callable[..., _Answer], /, *args: object, name: str = "gitmachine-callback") -> _Answer:
    """Call ``func(*args)`` on a fresh daemon thread and return its answer, or raise what it raised.

    The caller's context variables are copied to the thread. A cancelled wait ends at once; the thread, which cannot be
    interrupted, goes on to its end and its answer is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Answer] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(answer: _Answer | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(answer)  # type: ignore[arg-type]  # the answer is func's own when there is no error
        else:
            future.set_exception(error)

    def work() -> None:
        answer: _Answer | None = None
        error: BaseException | None = None
        try:
            answer = context.run(func, *args)
        except StopIteration as stop:
            # A future refuses it, since it would end the waiting coroutine as if it had returned.
            error = RuntimeError(f"{func!r} raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001  # whatever it is belongs to the one who waits
            error = raised
        try:
            loop.call_soon_threadsafe(deliver, answer, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=work, name=f"{name}-{next(_numbers)}", daemon=True).start()
    return await future
