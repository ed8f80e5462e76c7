"""The user's callbacks and input inside a machine's command.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio

import pytest

from gitmachine.clock import PausableClock
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.machines.guest import Guest


def guest(**fields):
    return Guest(ExecRequest(shell="x", **fields), PausableClock().limit(None))


def test_a_request_without_guests_is_handed_on_as_it_is():
    request = ExecRequest(shell="x", stdin=b"bytes")
    assert Guest(request, PausableClock().limit(None)).request is request


def test_a_plain_callback_is_called_at_once_and_leaves_nothing_to_await():
    seen = []
    assert guest(on_stdout=seen.append).request.on_stdout("a") is None
    assert seen == ["a"]


async def test_a_coroutine_callback_is_awaited():
    seen = []

    async def on_stdout(text):
        await asyncio.sleep(0)
        seen.append(text)

    await guest(on_stdout=on_stdout).request.on_stdout("a")
    assert seen == ["a"]


async def _call(request, name):
    await getattr(request, name)("x")


async def test_the_error_of_a_callback_is_remembered():
    def plain(_text):
        raise LookupError("plain")

    async def later(_data):
        raise LookupError("later")

    for name, callback in (("on_stderr", plain), ("on_stdout_bytes", later)):
        made = guest(**{name: callback})

        with pytest.raises(LookupError) as caught:
            await _call(made.request, name)
        assert made.error is caught.value


async def test_the_error_of_the_input_is_remembered_and_the_input_is_closed():
    closed = []

    async def source():
        try:
            yield b"a"
            raise LookupError("dry")
        finally:
            closed.append(True)

    made = guest(stdin=source())
    with pytest.raises(LookupError) as caught:
        assert [chunk async for chunk in made.request.stdin]
    assert made.error is caught.value
    assert closed == [True]


async def test_the_limit_stands_still_while_a_callback_is_busy():
    clock = PausableClock()
    limit = clock.limit(0.05)

    async def slow(_text):
        await asyncio.sleep(0.3)

    made = Guest(ExecRequest(shell="x", on_stdout=slow), limit)
    async with limit:
        await made.request.on_stdout("a")
    assert not limit.expired()


async def test_callbacks_that_the_machine_never_called_get_the_output_at_the_end():
    text, data, other = [], [], []

    async def on_bytes(chunk):
        data.append(chunk)

    made = guest(on_stdout=text.append, on_stdout_bytes=on_bytes, on_stderr=other.append)
    made.request.on_stdout("live")
    await made.deliver(ExecResult(exit_code=0, stdout_bytes=b"\xff", stderr_bytes=b""))
    assert text == ["live"]
    assert data == [b"\xff"]
    assert other == []


async def test_a_machine_may_call_back_from_a_thread():
    seen = []
    limit = PausableClock().limit(3600)
    made = Guest(ExecRequest(shell="x", on_stdout=seen.append), limit)
    async with limit:
        assert await asyncio.to_thread(made.request.on_stdout, "a") is None
    assert seen == ["a"]
    assert made.error is None
