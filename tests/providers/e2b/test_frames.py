"""Envelopes, taken apart wherever the stream was cut. Time budget: 10 s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine_e2b._frames import Frame, FrameError, FrameParser, encode

frames = st.lists(st.builds(Frame, st.sampled_from([0, 1, 2, 3, 255]), st.binary(max_size=40)), max_size=8)


def parse(pieces):
    parser = FrameParser()
    return [frame for piece in pieces for frame in parser.feed(piece)], parser


def test_a_frame_is_flags_a_length_and_a_payload():
    assert encode(b"{}", 2) == b"\x02\x00\x00\x00\x02{}"


@given(frames, st.data())
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(wanted, data):
    stream = b"".join(encode(frame.payload, frame.flags) for frame in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found, parser = parse(pieces)
    assert found == wanted
    assert not parser.pending


@given(frames)
def test_frames_come_out_byte_by_byte(wanted):
    stream = b"".join(encode(frame.payload, frame.flags) for frame in wanted)
    found, parser = parse(stream[at : at + 1] for at in range(len(stream)))
    assert found == wanted
    assert not parser.pending


def test_every_split_in_two_gives_the_same_frames():
    stream = encode(b"one") + encode(b"") + encode(b"x" * 300, 2)
    for cut in range(len(stream) + 1):
        found, _ = parse([stream[:cut], stream[cut:]])
        assert [frame.payload for frame in found] == [b"one", b"", b"x" * 300], f"cut at {cut}"


def test_a_stream_that_ends_within_a_frame_is_pending():
    for cut in (1, 4, 5, 7):
        found, parser = parse([encode(b"four")[:cut]])
        assert found == []
        assert parser.pending


def test_a_frame_that_is_too_large_is_refused_before_it_arrives():
    parser = FrameParser(max_payload_bytes=10)
    with pytest.raises(FrameError, match="11"):
        list(parser.feed(b"\x00\x00\x00\x00\x0b"))


def test_a_large_frame_in_small_pieces_takes_linear_time():
    payload = bytes(4 << 20)
    stream = encode(payload)
    found, _ = parse(stream[at : at + 512] for at in range(0, len(stream), 512))
    assert found == [Frame(0, payload)]


def test_the_end_of_a_stream_is_told_by_a_flag():
    assert Frame(2, b"").ends_stream
    assert Frame(3, b"").ends_stream
    assert not Frame(1, b"").ends_stream
