"""The client believes nothing that comes out of a machine: nonsense ends the connection, and no wait lasts for ever.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gitmachine import MachineLostError
from gitmachine_local import _client
from gitmachine_local._client import Channel
from gitmachine_local._errors import RemoteFailure


@pytest.fixture
async def ends():
    """A channel and the other end of its socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    channel = Channel(ours, "0123456789ab")
    yield channel, theirs
    channel.close()
    theirs.close()


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def frame(body):
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff\xff\xff",
        frame(b""),
        frame(b"1"),
        frame(b"1 ok"),
        frame(b"1 ok many"),
        frame(b"x ok 1"),
        frame(b"1 exit 0"),
        frame(b"1 error"),
        frame(b"\xff" * 100),
    ],
)
async def test_nonsense_is_a_lost_machine(ends, nonsense):
    channel, machine = ends
    call = asyncio.ensure_future(channel.call("hello"))
    machine.send(nonsense)
    with pytest.raises(MachineLostError, match="0123456789ab"):
        async with asyncio.timeout(30):
            await call


async def test_answers_nobody_asked_for_are_ignored(ends):
    channel, machine = ends
    machine.send(frame(b"77 ok 1") + frame(b"78 exit 0 0") + frame(b"79 error 2 /x") + frame(b"1 ok 5"))
    assert await channel.call("hello") == 5
    call = asyncio.ensure_future(channel.call("hello"))
    machine.send(frame(b"2 error 2 a name with spaces"))
    with pytest.raises(RemoteFailure) as caught:
        await call
    assert (caught.value.number, caught.value.filename) == (2, "a name with spaces")


async def test_an_answer_in_pieces_is_put_together(ends):
    channel, machine = ends
    call = asyncio.ensure_future(channel.call("hello"))
    for byte in frame(b"1 ok 42"):
        machine.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await call == 42


async def test_an_exit_code_is_never_more_than_a_byte(ends):
    channel, machine = ends
    seen = asyncio.get_running_loop().create_future()
    ident = channel.send("spawn", on_exit=lambda code, timed_out: seen.set_result((code, timed_out)))
    machine.send(frame(b"%d started 1" % ident) + frame(b"%d exit 99999 1" % ident))
    assert await channel.answer(ident) == (b"started", b"1")
    assert await seen == (99999 & 255, True)


async def test_descriptors_that_a_machine_sends_are_not_received(ends):
    channel, machine = ends
    before = descriptors()
    call = asyncio.ensure_future(channel.call("hello"))
    socket.send_fds(machine, [frame(b"1 ok 1")], [0])
    assert await call == 1
    assert descriptors() == before


async def test_a_machine_that_never_answers_is_lost_after_the_deadline(ends):
    channel, _machine = ends
    with pytest.raises(MachineLostError, match="did not answer"):
        await channel.call("hello", timeout=0.05)


async def test_a_machine_that_falls_silent_is_noticed(monkeypatch):
    monkeypatch.setattr(_client, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(_client, "SILENCE_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = Channel(ours, "0123456789ab")
    try:
        with pytest.raises(MachineLostError, match="silent"):
            async with asyncio.timeout(30):
                await channel.call("read", timeout=None)
    finally:
        channel.close()
        theirs.close()


async def test_a_large_request_waits_for_a_reader_and_arrives_whole(ends):
    channel, machine = ends
    data = os.urandom(5_000_000).replace(b"\0", b"x")
    call = asyncio.ensure_future(channel.call("hello", data))
    loop = asyncio.get_running_loop()
    received = b""
    await asyncio.sleep(0)
    while len(received) < len(data) + 12:
        received += await loop.sock_recv(machine, 1 << 20)
    assert received == frame(b"1\0hello\0" + data)
    machine.send(frame(b"1 ok 0"))
    await call
