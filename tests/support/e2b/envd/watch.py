"""Changes below a directory, by the kernel's inotify, named as envd names them (reference, 2.5)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_MODIFY, _ATTRIB = 0x2, 0x4
_MOVED_FROM, _MOVED_TO = 0x40, 0x80
_CREATE, _DELETE = 0x100, 0x200
_IGNORED, _ISDIR, _ONLYDIR = 0x8000, 0x4000_0000, 0x100_0000
_KINDS = {
    _CREATE: "CREATE",
    _MOVED_TO: "CREATE",
    _MODIFY: "WRITE",
    _DELETE: "REMOVE",
    _MOVED_FROM: "RENAME",
    _ATTRIB: "CHMOD",
}
_MASK = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR
_HEADER = struct.Struct("iIII")


class Watch:
    """A watched directory; `next` waits for (name relative to it, kind)."""

    def __init__(self, path: str, *, recursive: bool) -> None:
        self.path = path
        self._recursive = recursive
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._directories: dict[int, str] = {}
        self._events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        try:
            self._add("")
        except OSError:
            os.close(self._fd)
            raise
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    async def next(self) -> tuple[str, str]:
        return await self._events.get()

    def _add(self, name: str) -> None:
        absolute = os.path.join(self.path, name) if name else self.path  # noqa: PTH118 -- paths are text here
        descriptor = self._libc.inotify_add_watch(self._fd, os.fsencode(absolute), _MASK)
        if descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), absolute)
        self._directories[descriptor] = name
        if self._recursive:
            for child in os.scandir(absolute):
                if child.is_dir(follow_symlinks=False):
                    self._add(os.path.join(name, child.name))  # noqa: PTH118

    def _read(self) -> None:
        for descriptor, mask, name in _records(os.read(self._fd, 65536)):
            if mask & _IGNORED:
                self._directories.pop(descriptor, None)
                continue
            directory = self._directories.get(descriptor)
            kind = next((kind for bit, kind in _KINDS.items() if mask & bit), None)
            if directory is None or kind is None or not name:
                continue
            relative = os.path.join(directory, name)  # noqa: PTH118
            self._events.put_nowait((relative, kind))
            if kind == "CREATE" and mask & _ISDIR and self._recursive:
                self._appeared(relative)

    def _appeared(self, relative: str) -> None:
        try:
            self._add(relative)
            names = os.listdir(os.path.join(self.path, relative))  # noqa: PTH118, PTH208
        except OSError:
            return  # it is gone already
        for name in names:  # made before the watch was
            self._events.put_nowait((os.path.join(relative, name), "CREATE"))  # noqa: PTH118


def _records(raw: bytes) -> Iterator[tuple[int, int, str]]:
    offset = 0
    while offset < len(raw):
        descriptor, mask, _, length = _HEADER.unpack_from(raw, offset)
        offset += _HEADER.size
        yield descriptor, mask, os.fsdecode(raw[offset : offset + length].rstrip(b"\0"))
        offset += length
