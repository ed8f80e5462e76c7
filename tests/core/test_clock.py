"""Limits on a clock that can stand still.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from gitmachine.clock import PausableClock

FOREVER = 3600.0


async def test_a_limit_ends_what_takes_too_long():
    limit = PausableClock().limit(0.01)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.sleep(FOREVER)
    assert limit.expired()
    assert limit.reason is None


async def test_no_limit_never_ends_by_itself():
    limit = PausableClock().limit(None)
    async with limit:
        await asyncio.sleep(0.01)
    assert not limit.expired()


async def test_a_limit_stands_still_while_the_clock_is_paused():
    clock = PausableClock()
    limit = clock.limit(0.2)

    async def body() -> None:
        async with limit:
            clock.pause()
            await asyncio.sleep(0.5)
            assert not limit.expired()
            clock.resume()
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        await body()


async def test_a_limit_entered_while_the_clock_is_paused_begins_when_it_goes_on():
    clock = PausableClock()
    clock.pause()
    limit = clock.limit(0.01)

    async def body() -> None:
        async with limit:
            await asyncio.sleep(0.1)
            assert not limit.expired()
            clock.resume()
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        await body()


def test_paused_time_does_not_pass():
    clock = PausableClock()
    clock.pause()
    clock.pause()
    began = clock.time()
    time.sleep(0.05)
    assert clock.time() == began
    assert clock.paused
    clock.resume()
    clock.resume()
    assert not clock.paused
    assert clock.time() >= began


async def test_the_time_used_before_a_pause_counts():
    clock = PausableClock()
    limit = clock.limit(FOREVER)
    async with limit:
        await asyncio.sleep(0.05)
        clock.pause()
        assert limit._left is not None
        assert limit._left < FOREVER - 0.04
        clock.resume()


async def test_holds_are_counted():
    clock = PausableClock()
    limit = clock.limit(0.01)

    async def body() -> None:
        async with limit:
            limit.hold()
            clock.pause()
            limit.release()
            await asyncio.sleep(0.05)
            assert not limit.expired()
            clock.resume()
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        await body()


async def test_a_limit_can_be_ended_early_even_when_held():
    clock = PausableClock()
    limit = clock.limit(FOREVER)

    async def body() -> None:
        async with limit:
            clock.pause()
            limit.expire("because")
            limit.expire("of something else")
            clock.resume()
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        await body()
    assert limit.reason == "because"
    assert limit.expired()


async def test_ending_a_limit_that_is_not_entered_does_nothing():
    limit = PausableClock().limit(None)
    limit.expire("too early")
    async with limit:
        await asyncio.sleep(0)
    limit.expire("too late")
    assert limit.reason is None


async def test_a_cancellation_from_outside_stays_one():
    async def body() -> None:
        async with PausableClock().limit(FOREVER):
            await asyncio.sleep(FOREVER)

    task = asyncio.ensure_future(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_that_is_over_leaves_the_clock():
    clock = PausableClock()
    async with clock.limit(FOREVER):
        pass
    clock.pause()
    clock.resume()
    assert not clock._limits
