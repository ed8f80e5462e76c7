"""The 512-byte headers of tar archives: made as GNU tar makes them, read strictly in every common dialect.

Facts: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format" and
"Extensions to the archive format". What we write is the GNU dialect, because BusyBox's tar skips PAX headers and
would cut long names.
"""

from __future__ import annotations

import attrs

from gitmachine.archives.model import ArchiveError

__all__ = ["BLOCK", "Header", "make_header", "padding", "parse_header", "parse_pax"]

BLOCK = 512
_NAME_FIELD = 100
_OCTAL_SIZE_LIMIT = 8**11
_GNU_MAGIC = b"ustar  \0"
_BLANK_CHECKSUM = b" " * 8
_AFTER_LINK = _GNU_MAGIC + bytes(BLOCK - 157 - _NAME_FIELD - len(_GNU_MAGIC))
_LONG = b"././@LongLink"


@attrs.frozen
class Header:
    """One header as it stands in an archive; `kind` is its type flag."""

    name: bytes
    mode: int
    size: int
    mtime: int
    kind: bytes
    link: bytes


def padding(size: int) -> int:
    """Return how many bytes follow content of this size, up to the next block."""
    return -size % BLOCK


def make_header(name: bytes, kind: bytes, *, mode: int, size: int = 0, mtime: int = 0, link: bytes = b"") -> bytes:
    """Return the header of an entry, with what long names need before it; owner and group are left out (0)."""
    parts = b""
    if len(link) > _NAME_FIELD:
        parts += _long_name(b"K", link)
    if len(name) > _NAME_FIELD:
        parts += _long_name(b"L", name)
    return parts + _block(name[:_NAME_FIELD], kind, mode, size, mtime, link[:_NAME_FIELD])


def _long_name(kind: bytes, name: bytes) -> bytes:
    content = name + b"\0"
    return _block(_LONG, kind, 0, len(content), 0, b"") + content + bytes(padding(len(content)))


def _block(name: bytes, kind: bytes, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    length = b"%011o\0" % size if size < _OCTAL_SIZE_LIMIT else b"\x80" + size.to_bytes(11, "big")
    when = b"%011o\0" % min(max(mtime, 0), _OCTAL_SIZE_LIMIT - 1)
    start = name.ljust(_NAME_FIELD, b"\0") + b"%07o\0" % mode + b"0000000\x000000000\0" + length + when
    end = kind + link.ljust(_NAME_FIELD, b"\0") + _AFTER_LINK
    return start + b"%06o\0 " % (sum(start) + sum(_BLANK_CHECKSUM) + sum(end)) + end


def parse_header(block: bytes) -> Header | None:
    """Return the header in a block, or None for the block of zeros that ends an archive.

    Raises:
        ArchiveError: it is neither.
    """
    if not any(block):
        return None
    stated = _octal(block[148:156], "checksum")
    total = sum(block) - sum(block[148:156]) + sum(_BLANK_CHECKSUM)
    if stated != total:
        # Some old archivers added signed bytes.
        total -= 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if stated != total:
            raise ArchiveError("a header of the archive is damaged: its checksum does not match; nothing more is read")
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return Header(
        name,
        _number(block[100:108], "mode"),
        _number(block[124:136], "size"),
        _number(block[136:148], "time", signed=True),
        block[156:157],
        block[157:257].split(b"\0", 1)[0],
    )


def _octal(field: bytes, what: str) -> int:
    digits = field.strip(b" \0")
    if b"\0" in digits:
        digits = digits.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ArchiveError(f"a header of the archive is malformed: its {what} is {digits!r}, not an octal number")
    return int(digits, 8)


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF and signed:
        return int.from_bytes(field, "big", signed=True)
    return _octal(field, what)


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a PAX header.

    Raises:
        ArchiveError: it is malformed.
    """
    records: dict[bytes, bytes] = {}
    rest = memoryview(data)
    while rest and rest[0]:
        digits, space, _ = bytes(rest[:20]).partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        if not len(digits) + 3 <= length <= len(rest):
            raise ArchiveError("a PAX header of the archive is malformed: a record has no fitting length")
        record = bytes(rest[len(digits) + 1 : length])
        keyword, equals, value = record[:-1].partition(b"=")
        if not equals or not keyword or record[-1:] != b"\n":
            raise ArchiveError(f"a PAX header of the archive is malformed: {record[:80]!r} is no keyword with a value")
        records[keyword] = value
        rest = rest[length:]
    return records
