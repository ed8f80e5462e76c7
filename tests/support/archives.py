"""Archives piece by piece, also such as no archiver would make. Time budget: no tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gitmachine.archives.headers import BLOCK, make_header, padding

END = bytes(2 * BLOCK)
"""What an archive ends with."""


def entry(
    name: str | bytes, content: bytes = b"", *, kind: bytes = b"0", link: bytes = b"", mode: int = 0o644
) -> bytes:
    """Return an entry of any kind with its content."""
    raw = name.encode() if isinstance(name, str) else name
    return make_header(raw, kind, mode=mode, size=len(content), link=link) + content + bytes(padding(len(content)))


def directory(name: str, mode: int = 0o755) -> bytes:
    """Return a directory."""
    return entry(name + "/", kind=b"5", mode=mode)


def symlink(name: str, to: str) -> bytes:
    """Return a symbolic link."""
    return entry(name, kind=b"2", link=to.encode(), mode=0o777)


def record(keyword: bytes, value: bytes) -> bytes:
    """Return a record of a PAX header."""
    length = len(keyword) + len(value) + 3
    while len(str(length)) + len(keyword) + len(value) + 3 != length:
        length = len(str(length)) + len(keyword) + len(value) + 3
    return b"%d %b=%b\n" % (length, keyword, value)


def pax(kind: bytes = b"x", **records: str | bytes) -> bytes:
    """Return a PAX header; two underscores in a keyword stand for a dot."""
    data = b"".join(
        record(keyword.replace("__", ".").encode(), value.encode() if isinstance(value, str) else value)
        for keyword, value in records.items()
    )
    return entry("PaxHeaders/x", data, kind=kind)


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    """Yield data in pieces, as a stream brings it."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
