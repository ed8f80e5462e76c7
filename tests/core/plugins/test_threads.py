"""One fresh thread for each blocking call.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from gitmachine.plugins.threads import run_in_thread


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
