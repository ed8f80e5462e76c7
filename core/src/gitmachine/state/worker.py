"""One thread that runs functions in the order given, and now and then a batch."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from gitmachine.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Worker"]

T = TypeVar("T")

BATCH_SECONDS = 0.1
"""How long batched work may wait for more of its kind."""


class Worker:
    """A thread of its own for work that blocks.

    It is a daemon, so that a program that forgot to close it can end; whoever needs its work done calls `close`.
    """

    def __init__(self, name: str, *, batch: Callable[[], None]) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._batch = batch
        self._batch_due: float | None = None
        self._batch_asked = False
        self._closed = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, func: Callable[[], T]) -> Future[T]:
        """Run a function on the thread, after everything submitted before. Any thread may call this.

        Raises:
            StateError: the worker is closed.
        """
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = func()
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._gate:  # nothing may be queued behind the end mark: it would wait for ever
            if self._closed:
                raise StateError("the journal is closed: open it again")
            self._jobs.put(job)
        return future

    async def call(self, func: Callable[[], T]) -> T:
        """Run a function on the thread and wait for it; a cancelled caller leaves it to be carried out."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(func)))

    def ask_batch(self) -> None:
        """Have the batch run within `BATCH_SECONDS`; costs nothing when it was asked for already."""
        if not self._batch_asked:
            self._batch_asked = True
            self._jobs.put(self._schedule_batch)

    def close(self, timeout_seconds: float) -> bool:
        """Run what is queued and a last batch, and end the thread; tell whether it ended in time."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _schedule_batch(self) -> None:
        if self._batch_due is None:
            self._batch_due = time.monotonic() + BATCH_SECONDS

    def _run(self) -> None:
        while True:
            wait = None if self._batch_due is None else max(0.0, self._batch_due - time.monotonic())
            try:
                job = self._jobs.get(timeout=wait)
            except queue.Empty:
                self._run_batch()
                continue
            if job is None:
                self._run_batch()
                return
            job()
            del job  # it holds a result, and the next one may be long in coming
            if self._batch_due is not None and time.monotonic() >= self._batch_due:
                self._run_batch()

    def _run_batch(self) -> None:
        self._batch_due = None
        self._batch_asked = False  # before the batch looks: what comes later asks again
        self._batch()
