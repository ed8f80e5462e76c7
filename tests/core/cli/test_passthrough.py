"""Output passes byte for byte, a slow reader blocks only its writer, a lost reader is known. Time budget: 3 s."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitmachine.cli.output import OutputClosed
from gitmachine.cli.passthrough import Passthrough

DATA = bytes(range(256)) * 2048


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_all(descriptor: int, into: bytearray, size: int) -> threading.Thread:
    def read() -> None:
        while len(into) < size:
            into.extend(os.read(descriptor, 65536))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("nonblocking", [False, True])
async def test_a_pipe_gets_every_byte_in_order(pipe: tuple[int, int], nonblocking: bool) -> None:
    read, write = pipe
    os.set_blocking(write, not nonblocking)
    got = bytearray()
    thread = read_all(read, got, len(DATA))
    out = Passthrough(write, essential=True)
    for start in range(0, len(DATA), 50_000):
        await out.write(DATA[start : start + 50_000])
    await asyncio.to_thread(thread.join, 60)
    assert bytes(got) == DATA


async def test_a_slow_reader_does_not_block_the_loop(pipe: tuple[int, int]) -> None:
    read, write = pipe
    out = Passthrough(write, essential=True)
    writing = asyncio.ensure_future(out.write(DATA))
    turns = 0
    while turns < 50:
        await asyncio.sleep(0)
        turns += 1
    assert not writing.done()
    got = bytearray()
    thread = read_all(read, got, len(DATA))
    async with asyncio.timeout(60):
        await writing
    await asyncio.to_thread(thread.join, 60)
    assert bytes(got) == DATA


async def test_writing_can_be_cancelled(pipe: tuple[int, int]) -> None:
    _read, write = pipe
    writing = asyncio.ensure_future(Passthrough(write, essential=True).write(DATA))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_file_gets_every_byte(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        await Passthrough(file.fileno(), essential=True).write(DATA)
    assert (tmp_path / "out").read_bytes() == DATA


async def test_a_terminal_gets_every_byte() -> None:
    master, slave = pty.openpty()
    try:
        import tty

        tty.setraw(slave)
        got = bytearray()
        thread = read_all(master, got, len(DATA))
        async with asyncio.timeout(60):
            await Passthrough(slave, essential=True).write(DATA)
        await asyncio.to_thread(thread.join, 60)
        assert bytes(got) == DATA
    finally:
        os.close(slave)
        os.close(master)


async def test_a_reader_that_is_gone_is_known_only_where_it_matters(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    with pytest.raises(OutputClosed):
        await Passthrough(write, essential=True).write(b"x")
    quiet = Passthrough(write, essential=False)
    await quiet.write(b"x")
    await quiet.write(b"y")
