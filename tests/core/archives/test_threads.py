"""Long steps in threads of their own. Time budget: 1 s."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gitmachine.archives import Progress, advance, run_alone, watched_progress


async def test_a_step_gives_its_result_or_its_error() -> None:
    assert await run_alone(lambda: 42, lambda: None) == 42
    with pytest.raises(ZeroDivisionError):
        await run_alone(lambda: 1 // 0, lambda: None)


async def test_a_step_tells_who_watches_that_it_goes_on() -> None:
    progress = Progress()
    token = watched_progress.set(progress)
    try:
        await run_alone(advance, lambda: None)
    finally:
        watched_progress.reset(token)
    assert progress.steps == 1


async def test_a_cancellation_stops_the_step_and_waits_for_its_end() -> None:
    begun, stopped, over = threading.Event(), threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        assert stopped.wait(60)
        over.set()
        raise ConnectionError("given up")

    task = asyncio.ensure_future(run_alone(step, stopped.set))
    assert await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set()


async def test_many_steps_run_beside_each_other() -> None:
    together = threading.Barrier(40)
    await asyncio.gather(*(run_alone(lambda: together.wait(60), together.abort) for _ in range(40)))
