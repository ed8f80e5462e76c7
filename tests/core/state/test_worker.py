"""The thread that does what blocks.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from gitmachine.errors import StateError
from gitmachine.state.worker import Worker


@pytest.fixture
def batches():
    return []


@pytest.fixture
def worker(batches):
    made = Worker("test", batch=lambda: batches.append(threading.current_thread().name))
    yield made
    assert made.close(30)


async def test_functions_run_in_order_on_one_thread(worker):
    seen = []
    await asyncio.gather(*(worker.call(lambda number=number: seen.append(number)) for number in range(100)))
    assert seen == list(range(100))
    assert await worker.call(lambda: threading.current_thread().name) == "test"


async def test_an_error_is_raised_where_the_result_is_awaited(worker):
    def fail():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await worker.call(fail)
    assert await worker.call(lambda: 1) == 1


async def test_what_a_cancelled_caller_asked_for_is_done_all_the_same(worker):
    release, seen = threading.Event(), []
    worker.submit(lambda: release.wait(30))
    task = asyncio.ensure_future(worker.call(lambda: seen.append("done")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await worker.call(lambda: None)
    assert seen == ["done"]


def test_a_batch_runs_soon_and_once_for_many_requests(worker, batches):
    for _ in range(1000):
        worker.ask_batch()
    deadline = threading.Event()
    for _ in range(3000):
        if batches:
            break
        deadline.wait(0.01)
    assert batches
    assert set(batches) == {"test"}
    assert len(batches) < 100


def test_closing_runs_what_is_queued_and_a_last_batch(batches):
    worker = Worker("test", batch=lambda: batches.append("batch"))
    seen = []
    worker.submit(lambda: seen.append("done"))
    assert worker.close(30)
    assert worker.close(30)
    assert seen == ["done"]
    assert batches == ["batch"]
    with pytest.raises(StateError, match="closed"):
        worker.submit(lambda: None)


def test_closing_says_when_it_takes_too_long():
    release = threading.Event()
    worker = Worker("test", batch=lambda: None)
    worker.submit(lambda: release.wait(60))
    assert not worker.close(0.01)
    release.set()
    assert worker.close(30)
