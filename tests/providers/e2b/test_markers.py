"""Notices in a command's output: found wherever it is cut, never where there is none. Time budget: 10 s."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitmachine_e2b._markers import MAX_VALUE_BYTES, Notice, Scanner, new_token

TOKEN = "00aa11bb22cc"
END = b"\x1e" + TOKEN.encode() + b"e0\x1e"

# parts of notices, and what looks like them
pieces = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.integers(0, len(END)).map(lambda size: END[:size]),
        st.integers(0, len(END)).map(lambda size: END[size:]),
        st.sampled_from([b"\x1e", b"\x1e\x1e", TOKEN.encode(), b"\x1e" + TOKEN.encode() + b"e999\x1e"]),
    ),
    max_size=12,
)


def scan(chunks, token=TOKEN):
    """Return the output and the notices, each with where in the output it was."""
    scanner = Scanner(token)
    output, notices = b"", []
    for chunk in chunks:
        for found in scanner.feed(chunk):
            if isinstance(found, bytes):
                assert found, "an empty piece"
                output += found
            else:
                notices.append((len(output), found))
    return output + scanner.rest(), notices


def split(data, stream):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def test_tokens_are_new_each_time_and_hold_no_mark():
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(token.isalnum() for token in tokens)


@given(pieces, st.data())
def test_a_cut_changes_nothing(parts, data):
    stream = b"".join(parts)
    assert scan(split(data, stream)) == scan([stream])


@given(pieces, st.integers(0, 255), st.data())
def test_a_notice_is_found_after_any_output(parts, code, data):
    stream = b"".join(parts).replace(END, b"")
    notice = b"\x1e%be%d\x1e" % (TOKEN.encode(), code)
    output, notices = scan(split(data, stream + notice))
    if not notices:  # what came before swallowed its first byte, and it never came whole
        raise AssertionError((stream, output))
    assert notices[-1][1] == Notice(b"e", str(code))


@given(st.binary(max_size=300), st.data())
def test_output_without_the_token_comes_out_as_it_went_in(stream, data):
    assert scan(split(data, stream)) == (stream, [])


def test_the_notice_of_another_command_is_output():
    other = END.replace(b"aa", b"ab")
    assert scan([b"x" + other + b"y"]) == (b"x" + other + b"y", [])


def test_what_is_like_a_notice_but_none_is_output():
    start = b"\x1e" + TOKEN.encode()
    for text in (
        b"e256\x1e",
        b"e-1\x1e",
        b"x1\x1e",
        b"ezz\x1e",
        b"e" + b"9" * (MAX_VALUE_BYTES + 5) + b"\x1e",
        b"\x1e",
    ):
        assert scan([start + text + b"rest"]) == (start + text + b"rest", [])


def test_ordinary_output_is_never_held_back():
    scanner = Scanner(TOKEN)
    assert scanner.feed(b"a prompt> ") == [b"a prompt> "]
    assert scanner.feed(b"\x1e") == []
    assert scanner.feed(b"x") == [b"\x1ex"]


def test_output_around_a_notice_keeps_its_place():
    sync = b"\x1e" + TOKEN.encode() + b"s12ab\x1e"
    output, notices = scan([b"before" + sync + b"after" + END])
    assert output == b"beforeafter"
    assert notices == [(6, Notice(b"s", "12ab")), (11, Notice(b"e", "0"))]
