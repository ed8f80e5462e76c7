"""Threads for blocking calls: a fresh one for each, or one for many in order.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from gitmachine.plugins.threads import OrderedThread, run_in_thread


async def test_the_answer_comes_back_from_another_daemon_thread():
    thread = await run_in_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), StopAsyncIteration(), asyncio.CancelledError()])
async def test_an_error_comes_back_as_it_is(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        await run_in_thread(fail)
    assert caught.value is error or isinstance(error, asyncio.CancelledError)


async def test_stop_iteration_cannot_pass_for_a_return():
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await run_in_thread(next, iter(()))


async def test_context_variables_go_in_and_changes_stay_out():
    variable = contextvars.ContextVar("variable")
    variable.set("outer")

    def change():
        before = variable.get()
        variable.set("inner")
        return before

    assert await run_in_thread(change) == "outer"
    assert variable.get() == "outer"


async def test_a_cancelled_wait_ends_at_once_while_the_thread_goes_on():
    running, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        running.set()
        release.wait(60)
        ended.set()

    task = asyncio.create_task(run_in_thread(work))
    while not running.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert not ended.is_set()
    release.set()
    assert await asyncio.to_thread(ended.wait, 30)


def test_a_thread_that_outlives_the_loop_ends_in_silence():
    release, threads = threading.Event(), []

    def work():
        threads.append(threading.current_thread())
        release.wait(60)

    async def abandon():
        task = asyncio.create_task(run_in_thread(work))
        while not threads:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(abandon())
    release.set()
    threads[0].join(30)
    assert not threads[0].is_alive()


async def test_calls_on_one_thread_come_in_order_and_hold_the_caller_back():
    seen = []

    def slow(number):
        seen.append((number, threading.current_thread()))
        return number

    with OrderedThread("ordered") as thread:
        assert [await thread.call(slow, n) for n in range(50)] == list(range(50))
        assert sorted(await asyncio.gather(*(thread.call(slow, n) for n in range(50, 60)))) == list(range(50, 60))
    assert [number for number, _ in seen] == list(range(60))
    assert len({worker for _, worker in seen}) == 1
    worker = seen[0][1]
    assert worker.daemon
    await asyncio.to_thread(worker.join, 30)
    assert not worker.is_alive()


async def test_an_error_on_the_one_thread_is_its_callers_and_the_next_call_works():
    with OrderedThread("ordered") as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 / 0)
        assert await thread.call(lambda: "fine") == "fine"


async def test_a_thread_without_calls_is_never_started():
    before = threading.active_count()
    with OrderedThread("ordered"):
        assert threading.active_count() == before


async def test_a_blocking_iterable_is_read_item_by_item_on_the_thread():
    fetched = []

    def produce():
        for number in range(3):
            fetched.append(threading.current_thread())
            yield number

    with OrderedThread("ordered") as thread:
        received = []
        async for item in thread.iterate(produce()):
            received.append((item, len(fetched)))
    assert received == [(0, 1), (1, 2), (2, 3)]
    assert threading.current_thread() not in fetched


async def test_an_iterable_that_raises_or_is_none_at_all_raises_where_it_is_read():
    def produce():
        yield 1
        raise OSError("gone")

    with OrderedThread("ordered") as thread:
        with pytest.raises(OSError, match="gone"):
            [item async for item in thread.iterate(produce())]
        with pytest.raises(TypeError):
            [item async for item in thread.iterate(7)]
