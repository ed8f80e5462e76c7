"""Output kept in bounded memory, and decoded as it arrives.

Time budget: 5 s.
"""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gitmachine.output import OutputBuffer, TextSink, pump

chunked = st.lists(st.binary(max_size=40), max_size=30)


@given(chunks=chunked, limit=st.integers(min_value=0, max_value=300))
def test_the_first_and_the_last_half_of_the_limit_are_kept(chunks, limit):
    whole = b"".join(chunks)
    buffer = OutputBuffer(limit)
    for chunk in chunks:
        buffer.append(chunk)
    kept = buffer.getvalue()
    if len(whole) <= limit:
        assert kept == whole
        assert not buffer.truncated
    else:
        head, tail = limit // 2, limit - limit // 2
        assert kept == whole[:head] + whole[len(whole) - tail :]
        assert buffer.truncated


@given(chunks=chunked, limit=st.integers(min_value=1, max_value=50))
def test_asking_for_the_value_in_between_changes_nothing(chunks, limit):
    asked, unasked = OutputBuffer(limit), OutputBuffer(limit)
    for chunk in chunks:
        asked.append(chunk)
        asked.getvalue()
        unasked.append(chunk)
    assert asked.getvalue() == unasked.getvalue()
    assert asked.truncated == unasked.truncated


def test_a_gibibyte_is_kept_in_memory_of_the_limits_size():
    limit = 1024
    buffer = OutputBuffer(limit)
    chunk = b"x" * 65536
    for _ in range(16384):
        buffer.append(chunk)
        assert len(buffer._tail) + len(buffer._head) <= 2 * limit
    assert len(buffer.getvalue()) == limit


@given(st.lists(st.binary(max_size=8), max_size=30) | st.lists(st.text(max_size=8).map(str.encode), max_size=30))
def test_text_is_the_same_however_the_bytes_are_cut(chunks):
    text: list[str] = []
    sink = TextSink(text.append)

    async def write() -> None:
        for chunk in chunks:
            await sink.write(chunk)
        await sink.write(b"", final=True)

    asyncio.run(write())
    assert "".join(text) == b"".join(chunks).decode("utf-8", "replace")
    assert "" not in text


async def test_a_character_cut_in_two_is_handed_over_whole():
    text: list[str] = []
    sink = TextSink(text.append)
    for byte in "é€😀".encode():
        await sink.write(bytes([byte]))
    assert text == ["é", "€", "😀"]


async def _stream(*chunks: bytes):
    for chunk in chunks:
        yield chunk


async def test_both_kinds_of_callback_see_every_piece_in_order():
    seen: list[str | bytes] = []

    async def on_bytes(data: bytes) -> None:
        await asyncio.sleep(0)
        seen.append(data)

    buffer = OutputBuffer(100)
    await pump(_stream(b"a", b"\xff"), buffer, seen.append, on_bytes)
    assert seen == [b"a", "a", b"\xff", "\N{REPLACEMENT CHARACTER}"]
    assert buffer.getvalue() == b"a\xff"
