"""The marker scanner, with output made of everything that looks like a marker.

Time budget: 10 s.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gitmachine.machines.channel.scanner import START, MarkerScanner

TOKEN = "0123456789abcdef0123456789abcdef"
MARKER = START + TOKEN.encode()

prefixes = st.integers(0, len(MARKER) - 1).map(lambda length: MARKER[:length])
suffixes = st.integers(1, len(MARKER)).map(lambda start: MARKER[start:])
noise = st.binary(max_size=5)
outputs = st.lists(st.one_of(prefixes, suffixes, noise, st.just(START)), max_size=12).map(b"".join)


class Listener:
    def __init__(self) -> None:
        self.output = bytearray()
        self.words: list[tuple[str, int]] = []
        self.scanner = MarkerScanner(self.output.extend, self._word)
        self.scanner.expect(TOKEN)

    def _word(self, word: str) -> None:
        self.words.append((word, len(self.output)))


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in pairwise(borders)]


@given(outputs.filter(lambda data: MARKER not in data), st.lists(st.integers(0, 2000), max_size=30))
def test_output_made_of_pieces_of_the_token_comes_through_exactly(output, cuts):
    # A prefix followed by the real marker may look like a marker one byte too early.
    listener = Listener()
    for piece in pieces_of(output + MARKER + b"17\n" + MARKER + b"clean\n", cuts):
        listener.scanner.feed(piece)
    assert bytes(listener.output) == output
    assert listener.words == [("17", len(output)), ("clean", len(output))]


@given(outputs.filter(lambda data: MARKER not in data))
def test_one_byte_at_a_time_gives_the_same(output):
    listener = Listener()
    for byte in output + MARKER + b"0\n":
        listener.scanner.feed(bytes([byte]))
    assert bytes(listener.output) == output
    assert listener.words == [("0", len(output))]


@given(st.binary(min_size=1, max_size=200).filter(lambda data: START not in data))
def test_ordinary_output_is_never_held_back(output):
    listener = Listener()
    listener.scanner.feed(output)
    assert bytes(listener.output) == output


def test_what_begins_like_a_marker_is_held_until_it_is_known_to_be_none():
    listener = Listener()
    listener.scanner.feed(b"out" + MARKER[:20])
    assert bytes(listener.output) == b"out"
    listener.scanner.feed(b"!")
    assert bytes(listener.output) == b"out" + MARKER[:20] + b"!"
    assert listener.words == []


def test_a_marker_without_its_newline_waits_for_it():
    listener = Listener()
    listener.scanner.feed(b"x" + MARKER + b"12")
    assert listener.words == []
    listener.scanner.feed(b"7\nmore")
    assert listener.words == [("127", 1)]
    assert bytes(listener.output) == b"xmore"


def test_without_a_token_everything_is_output():
    listener = Listener()
    listener.scanner.expect("")
    listener.scanner.feed(MARKER + b"0\n")
    assert bytes(listener.output) == MARKER + b"0\n"
    assert listener.words == []


def test_a_word_may_change_what_is_looked_for():
    output, words = bytearray(), []
    other = "f" * 32

    def word(text: str) -> None:
        words.append(text)
        scanner.expect(other)

    scanner = MarkerScanner(output.extend, word)
    scanner.expect(TOKEN)
    scanner.feed(MARKER + b"a\n" + MARKER + b"b\n" + START + other.encode() + b"c\n")
    assert words == ["a", "c"]
    assert bytes(output) == MARKER + b"b\n"
