"""Taking a tar stream from somebody who may be hostile."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from gitmachine.archives.headers import BLOCK, Header, padding, parse_header, parse_pax
from gitmachine.archives.model import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES, ArchiveError, Transfer
from gitmachine.archives.naming import Naming
from gitmachine.archives.placing import Placing
from gitmachine.archives.progress import advance
from gitmachine.archives.threads import begin, ended, run_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from pathlib import Path

    from gitmachine.archives.directories import Names

__all__ = ["Unpacker", "unpack"]

_CHUNK_BYTES = 1024 * 1024
_MAX_EXTRA_BYTES = 64 * 1024
_MAX_TRAILER_BYTES = 1024 * 1024
_MODE = 0o777
_MIN_NAMES_BYTES = 1024 * 1024
_USUAL_NAME_BYTES = 256

_UNWANTED = {b"3": "a device", b"4": "a device", b"6": "a named pipe", b"S": "a sparse file"}


async def unpack(
    chunks: AsyncIterable[bytes],
    target: Path,
    *,
    name: str | None,
    max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
    max_entries: int = DEFAULT_MAX_ENTRIES,
) -> Transfer:
    """Write what a tar stream holds to this host, whoever made it, and nothing outside the target.

    Parents are made. A directory is merged into one that is there: nothing is removed, files and links are replaced
    in one step, and directories that were there keep their modes. Modes (the nine bits), times and links are kept,
    owners are not. A symbolic link is only ever made, never followed. On failure or cancellation a target that was
    new is removed again; of one that was there, what was complete stays.

    Args:
        chunks: the archive, plain; read to its end.
        target: exactly what the thing becomes.
        name: what the thing is called in the archive; None when the archive holds the content of a directory.
        max_bytes: how much content is accepted.
        max_entries: how many files, directories and links are accepted.

    Raises:
        ArchiveError: it is malformed, ends early, names something outside, holds a device, a pipe or a sparse file,
            or exceeds a bound (EFBIG).
        LocalFileError: this host cannot write it; a file onto a directory, or the reverse, among the reasons.
    """
    reader = await run_through(lambda: Unpacker(target, name, max_bytes, max_entries))
    writing: asyncio.Future[None] | None = None
    try:
        async for block in _gathered(chunks):
            if writing is not None:
                await ended(writing)
            writing = begin(lambda block=block: reader.feed(block))  # type: ignore[misc]  # bound now, not later
        if writing is not None:
            await ended(writing)
        return await run_through(reader.finish)
    except BaseException:
        if writing is not None:
            await _settled(writing)
        await run_through(reader.abandon)
        raise


async def _settled(step: asyncio.Future[None]) -> None:
    """Wait for a step whose error, if any, does not matter any more."""
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:  # a second one: the thread cannot be interrupted
            continue
    step.exception()


async def _gathered(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in large pieces: a thread is not worth starting for small ones."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        advance()
        pieces.append(chunk)
        size += len(chunk)
        if size >= _CHUNK_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


class Unpacker:
    """Reads an archive that arrives in pieces, and places what it holds; `unpack` for whoever has a thread for it.

    After `feed` and `finish` comes nothing; after an error of theirs, or in place of `finish`, comes `abandon`.
    """

    def __init__(self, target: Path, name: str | None, max_bytes: int, max_entries: int) -> None:
        """Look at the target; the arguments are those of `unpack`."""
        self._placing = Placing(target)
        self._naming = Naming(name, max(_MIN_NAMES_BYTES, max_entries * _USUAL_NAME_BYTES))
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries = 0
        self._bytes = 0
        self._files = 0
        self._collected = bytearray()
        self._wanted = BLOCK
        self._collecting: bytes | None = None  # the type flag of the extra header whose content is collected
        self._content = 0
        self._skip = 0
        self._extra: dict[bytes, bytes] = {}
        self._trailer: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the archive's own end has come."""
        return self._trailer is not None

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece, and keep nothing of it."""
        view = memoryview(data)
        while view:
            if self._trailer is not None:
                self._trailer += len(view)
                if self._trailer > _MAX_TRAILER_BYTES:
                    raise ArchiveError("the archive goes on and on after its end")
                return
            if self._content:
                part, view = view[: self._content], view[self._content :]
                self._placing.write(part)
                self._content -= len(part)
                if not self._content:
                    self._placing.end_file()
            elif self._skip:
                part, view = view[: self._skip], view[self._skip :]
                self._skip -= len(part)
            else:
                missing = self._wanted - len(self._collected)
                self._collected += view[:missing]
                view = view[missing:]
                if len(self._collected) == self._wanted:
                    self._take(bytes(self._collected))

    def finish(self) -> Transfer:
        """Say what came, once everything is there."""
        if self._trailer is None:
            raise ArchiveError("the archive ends early: what sent it stopped in the middle")
        if not self._entries:
            raise ArchiveError("the archive is empty")
        self._placing.finish()
        return Transfer(files=self._files, bytes=self._bytes)

    def abandon(self) -> None:
        """Remove what is not complete."""
        self._placing.abandon()

    def _take(self, block: bytes) -> None:
        self._collected.clear()
        self._wanted = BLOCK
        if self._collecting is not None:
            kind, self._collecting = self._collecting, None
            self._skip = padding(len(block))
            self._take_extra(kind, block)
            return
        header = parse_header(block)
        if header is None:
            self._trailer = 0
        elif header.kind in {b"x", b"g", b"L", b"K"}:
            self._begin_extra(header)
        else:
            self._entry(header, self._extra)
            self._extra = {}

    # What comes before an entry

    def _begin_extra(self, header: Header) -> None:
        if header.size > _MAX_EXTRA_BYTES:
            raise ArchiveError(
                f"an extra header of the archive has {header.size} bytes, more than {_MAX_EXTRA_BYTES}",
                errno=errno.EFBIG,
            )
        if header.kind in self._extra:
            raise ArchiveError("an entry of the archive has two extra headers of one kind")
        if header.kind == b"g":
            self._count()
        else:
            self._extra[header.kind] = b""
        if header.size:
            self._collecting, self._wanted = header.kind, header.size

    def _take_extra(self, kind: bytes, content: bytes) -> None:
        if kind == b"L":
            self._extra[b"path"] = content.split(b"\0", 1)[0]
        elif kind == b"K":
            self._extra[b"linkpath"] = content.split(b"\0", 1)[0]
        else:
            records = parse_pax(content)
            if any(keyword.startswith(b"GNU.sparse.") for keyword in records):
                raise ArchiveError("the archive holds a sparse file, which is not accepted: make it without --sparse")
            if kind == b"x":
                self._extra.update(records)
            elif records.keys() & {b"path", b"linkpath", b"size"}:
                raise ArchiveError("a global PAX header of the archive names a path or a size, which is not accepted")

    # Entries

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._max_entries:
            message = f"the archive has more than {self._max_entries} entries: allow more, or move less"
            raise ArchiveError(message, errno=errno.EFBIG)

    def _entry(self, header: Header, extra: dict[bytes, bytes]) -> None:
        self._count()
        raw = extra.get(b"path", header.name)
        size = _pax_number(extra, b"size", header.size)
        mtime = _pax_number(extra, b"mtime", header.mtime)
        kind = header.kind
        if kind in {b"0", b"\0", b"7"}:
            kind = b"5" if raw.endswith(b"/") else b"0"  # old archives know no other directories
        path = self._naming.place(raw, directory=kind == b"5")
        if kind == b"0":
            self._file(path, raw, header.mode & _MODE, size, mtime)
            return
        if kind == b"5":
            self._placing.directory(path, header.mode & _MODE, mtime)
        elif kind == b"2":
            self._placing.symlink(path, _link_text(extra.get(b"linkpath", header.link), raw), mtime)
            self._files += 1
        elif kind == b"1":
            self._placing.hard_link(path, self._naming.placed(extra.get(b"linkpath", header.link), raw))
            self._files += 1
        else:
            what = _UNWANTED.get(kind, f"of an unknown kind, {kind!r}")
            raise ArchiveError(f"the archive holds {os.fsdecode(raw)!r}, {what}, which is not accepted")
        if size:
            raise ArchiveError(f"the archive holds content for {os.fsdecode(raw)!r}, which is no file")

    def _file(self, path: Names, raw: bytes, mode: int, size: int, mtime: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            message = f"the archive has more than {self._max_bytes} bytes, with {os.fsdecode(raw)!r}: allow more"
            raise ArchiveError(message, errno=errno.EFBIG)
        self._placing.begin_file(path, mode, mtime)
        self._files += 1
        self._content, self._skip = size, padding(size)
        if not size:
            self._placing.end_file()


def _pax_number(extra: dict[bytes, bytes], keyword: bytes, otherwise: int) -> int:
    text = extra.get(keyword)
    if text is None:
        return otherwise
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-") if keyword == b"mtime" else whole
    if not (digits.isdigit() and len(digits) < 20) or (fraction and not fraction.isdigit()):
        raise ArchiveError(f"a PAX header of the archive is malformed: its {keyword.decode()} is {text[:40]!r}")
    return int(whole)


def _link_text(text: bytes, raw: bytes) -> bytes:
    if not text or b"\0" in text or len(text) > 4095:
        raise ArchiveError(f"the archive holds the link {os.fsdecode(raw)!r} to nowhere")
    return text
