"""Outputs that are pushed: order, ends, and the bound on what nobody reads.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio

from gitmachine.streams import HIGH_BYTES, LOW_BYTES, NoOutput, PushedOutputs, PushedStream


async def test_what_was_pushed_is_read_in_order_and_ends():
    stream = PushedStream()
    stream.feed(b"a")
    stream.feed(b"b")
    assert await anext(stream) == b"ab"
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stream.feed(b"c")
    assert await reading == b"c"
    stream.feed(b"d")
    stream.finish()
    stream.finish()
    assert [piece async for piece in stream] == [b"d"]


async def test_whoever_waits_is_told_of_the_end():
    stream = PushedStream()
    reading = asyncio.ensure_future(anext(stream, b"end"))
    await asyncio.sleep(0)
    stream.finish()
    assert await reading == b"end"


async def test_a_reader_that_gave_up_takes_nothing_along():
    stream = PushedStream()
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    stream.feed(b"a")
    assert await anext(stream) == b"a"


async def test_what_nobody_reads_holds_the_connection_back_until_little_is_left():
    said: list[bool] = []
    outputs = PushedOutputs(said.append)
    outputs.feed(1, bytes(HIGH_BYTES - LOW_BYTES))
    outputs.feed(2, bytes(LOW_BYTES))
    assert said == []
    outputs.feed(2, b"x")
    outputs.feed(2, b"x")
    assert said == [True]
    assert outputs.held_back
    assert outputs.stream(1) is outputs.stdout
    await anext(outputs.stdout)
    assert said == [True], "two bytes more than a little are left"
    await anext(outputs.stderr)
    assert said == [True, False]
    assert outputs.waiting_bytes == 0


async def test_once_opened_up_nothing_is_held_back_any_more():
    said: list[bool] = []
    outputs = PushedOutputs(said.append)
    outputs.feed(1, bytes(HIGH_BYTES + 1))
    outputs.open_up()
    outputs.feed(1, bytes(HIGH_BYTES))
    assert said == [True, False]
    outputs.finish()
    assert sum([len(piece) async for piece in outputs.stdout]) == 2 * HIGH_BYTES + 1
    assert [piece async for piece in outputs.stderr] == []


async def test_the_errors_of_a_terminal_are_none():
    assert [piece async for piece in NoOutput()] == []
