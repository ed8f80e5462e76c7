"""The client's ends of pipes: everything arrives, the end is the right one, nothing is left open.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

import pytest

from gitmachine.pipes import CHUNK_BYTES, PipeReader, PipeWriter, make_pipes


def is_open(fd: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


async def test_everything_that_is_written_arrives_and_then_the_end():
    source, sink = os.pipe()
    ends: list[str] = []
    reader, writer = PipeReader(source, on_end=lambda: ends.append("end")), PipeWriter(sink)
    data = os.urandom(40 * CHUNK_BYTES + 7)

    async def write() -> None:
        await writer.write(data)
        await writer.close()
        await writer.close()

    _, pieces = await asyncio.gather(write(), _collected(reader))
    assert b"".join(pieces) == data
    assert (ends, reader.drained) == (["end"], True)
    assert not is_open(source)
    assert not is_open(sink)


async def _collected(reader: PipeReader) -> list[bytes]:
    return [piece async for piece in reader]


async def test_after_the_finish_only_what_was_there_is_read():
    source, sink = os.pipe()
    reader = PipeReader(source)
    os.write(sink, b"before")
    reader.finish()
    os.write(sink, b"after")
    assert await _collected(reader) == [b"before"]
    assert not reader.drained, "somebody could still write"
    os.close(sink)


async def test_a_reader_that_waits_ends_when_it_is_told_to():
    source, sink = os.pipe()
    reader = PipeReader(source)
    reading = asyncio.ensure_future(_collected(reader))
    await asyncio.sleep(0)
    reader.finish()
    assert await asyncio.wait_for(reading, 30) == []
    os.close(sink)


async def test_a_pipe_that_others_may_write_to_is_handed_over_in_place_of_being_closed():
    source, sink = os.pipe()
    adopted: list[int] = []
    reader = PipeReader(source, adopt=adopted.append)
    reader.finish()
    assert await _collected(reader) == []
    assert adopted == [source]
    assert is_open(source)
    os.close(source)
    os.close(sink)


async def test_a_writer_says_that_nobody_reads():
    source, sink = os.pipe()
    writer = PipeWriter(sink)
    os.close(source)
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x")
    writer.abort()


async def test_a_write_that_waits_ends_with_the_writer():
    source, sink = os.pipe()
    writer = PipeWriter(sink)
    writing = asyncio.ensure_future(writer.write(bytes(8 << 20)))
    await asyncio.sleep(0.01)
    writer.abort()
    with pytest.raises(BrokenPipeError, match="closed"):
        await asyncio.wait_for(writing, 30)
    os.close(source)


def test_pipes_are_made_all_or_none(monkeypatch):
    made: list[int] = []
    real = os.pipe

    def pipe() -> tuple[int, int]:
        if len(made) == 4:
            raise OSError(errno.EMFILE, "too many")
        ends = real()
        made.extend(ends)
        return ends

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="too many"):
        make_pipes(3)
    assert not any(is_open(fd) for fd in made)
