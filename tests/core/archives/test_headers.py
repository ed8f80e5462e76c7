"""Headers as GNU tar makes them, and strict reading of every common dialect. Time budget: 5 s."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.archives import ArchiveError
from gitmachine.archives.headers import BLOCK, make_header, padding, parse_header, parse_pax
from support.archives import record

names = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))


def read_by_tarfile(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + bytes(2 * BLOCK)), errors="surrogateescape") as archive:
        found = archive.next()
    assert found is not None
    return found


@given(name=names, mode=st.integers(0, 0o777), mtime=st.integers(0, 2**33 - 1), link=names)
def test_the_standard_library_reads_what_we_write(name: bytes, mode: int, mtime: int, link: bytes) -> None:
    found = read_by_tarfile(make_header(name, b"2", mode=mode, mtime=mtime, link=link))
    assert found.name.encode("utf-8", "surrogateescape") == name
    assert found.linkname.encode("utf-8", "surrogateescape") == link
    assert (found.mode, found.mtime, found.issym()) == (mode, mtime, True)


@given(name=names.filter(lambda name: len(name) <= 100), size=st.integers(0, 2**64), mtime=st.integers(0, 2**33 - 1))
def test_what_we_write_we_read(name: bytes, size: int, mtime: int) -> None:
    data = make_header(name, b"0", mode=0o640, size=size, mtime=mtime)
    found = parse_header(data)
    assert found is not None
    assert (found.name, found.size, found.mtime, found.mode, found.kind) == (name, size, mtime, 0o640, b"0")


def test_times_that_no_header_can_hold_are_brought_within() -> None:
    early = parse_header(make_header(b"a", b"0", mode=0, mtime=-5))
    late = parse_header(make_header(b"a", b"0", mode=0, mtime=2**40))
    assert early is not None
    assert late is not None
    assert (early.mtime, late.mtime) == (0, 8**11 - 1)


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_the_standard_library_are_read(dialect: int) -> None:
    info = tarfile.TarInfo("dir/" * 30 + "name")
    info.mode, info.mtime, info.size = 0o7755, 1234567890, 0
    data = info.tobuf(dialect, "utf-8", "surrogateescape")
    found = parse_header(data[-BLOCK:])
    assert found is not None
    assert (found.mode, found.mtime, found.kind) == (0o7755, 1234567890, b"0")
    if dialect == tarfile.USTAR_FORMAT:
        assert found.name == info.name.encode()


def test_a_checksum_of_signed_bytes_is_accepted() -> None:
    block = bytearray(make_header(b"caf\xc3\xa9", b"0", mode=0o644))
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % signed
    found = parse_header(bytes(block))
    assert found is not None
    assert found.name == b"caf\xc3\xa9"


def test_zeros_are_the_end() -> None:
    assert parse_header(bytes(BLOCK)) is None


@given(at=st.integers(0, BLOCK - 1), flip=st.integers(1, 255))
def test_one_wrong_byte_is_noticed_or_means_the_same(at: int, flip: int) -> None:
    block = bytearray(make_header(b"name", b"0", mode=0o644, size=3, mtime=99))
    right = parse_header(bytes(block))
    block[at] ^= flip
    try:
        assert parse_header(bytes(block)) == right
        assert 148 <= at < 156  # another way to write the same checksum
    except ArchiveError:
        pass


@given(st.binary(min_size=BLOCK, max_size=BLOCK))
def test_any_block_is_a_header_or_an_archive_error(block: bytes) -> None:
    try:
        parse_header(block)
    except ArchiveError as error:
        assert "archive" in str(error)  # noqa: PT017  # both ends are fine


keywords = st.binary(min_size=1, max_size=20).filter(lambda text: b"=" not in text)


@given(st.dictionaries(keywords, st.binary(max_size=150), max_size=5))
def test_pax_records_are_read_with_any_content(records: dict[bytes, bytes]) -> None:
    assert parse_pax(b"".join(record(*item) for item in records.items())) == records


@pytest.mark.parametrize(
    "data",
    [
        b"path=x\n",
        b"8 path=x\n",
        b"11 path=xyz",
        b"999 path=x\n",
        b"8 =abcd\n",
        b"7 abcd\n",
        b"-5 a=b\n",
        b" 6 a=b\n",
        b"2 ",
    ],
)
def test_malformed_pax_records_are_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError, match="PAX header"):
        parse_pax(data)


@given(st.binary(max_size=100))
def test_any_pax_header_is_read_or_an_archive_error(data: bytes) -> None:
    try:
        assert isinstance(parse_pax(data), dict)
    except ArchiveError as error:
        assert "PAX" in str(error)  # noqa: PT017  # both ends are fine


def test_padding_fills_a_block() -> None:
    assert [padding(size) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]
