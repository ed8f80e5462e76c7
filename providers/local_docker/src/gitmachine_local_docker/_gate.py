"""Keeping starts and freezings of one container apart among the processes of this user on this host.

One file of the user's, in which every container has two bytes to be locked: the door, and the room behind it. Who
starts a process is in the room, with others; who freezes shuts the door and then waits until the room is empty. The
kernel lets go of what a process held when it dies, and nothing is left behind for a container that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import struct
import sys
import time
from typing import TYPE_CHECKING

from gitmachine import StateError
from gitmachine.state.places import Places

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Hold", "HostGate"]

FILE = "docker-starts.lock"
START_SECONDS = 30.0
"""How long a start lets a freezing go first; then the engine refuses it, as in any frozen container."""
FIRST_DELAY_SECONDS = 0.001
LAST_DELAY_SECONDS = 0.05

# Locks of an open file description, not of the process, as fcntl(2) has them on Linux: two tasks are two holders.
_SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.maxsize > 1 << 32 else None
_HELD = frozenset({errno.EAGAIN, errno.EACCES})


class Hold:
    """What is held until it is let go of."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of it; harmless when that was done."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class HostGate:
    """The gate of one container. Where there are no such locks, or no place for the file, everybody may pass."""

    def __init__(self, container: str) -> None:
        """Name the container by its id; nothing is opened yet."""
        place = int.from_bytes(hashlib.sha256(container.encode()).digest()[:7], "big")
        self._door, self._room = 2 * place, 2 * place + 1

    async def enter(self) -> Hold:
        """Start a process, when nobody freezes the container or is about to; it is done with `Hold.release`."""
        return await self._take(fcntl.F_RDLCK, START_SECONDS)

    @contextlib.asynccontextmanager
    async def shut(self, seconds: float) -> AsyncIterator[None]:
        """Freeze the container, when nobody starts a process any more, or after so many seconds."""
        hold = await self._take(fcntl.F_WRLCK, seconds)
        try:
            yield
        finally:
            hold.release()

    async def _take(self, kind: int, seconds: float) -> Hold:
        descriptor = _opened()
        if descriptor is None:
            return Hold(None)
        hold, deadline = Hold(descriptor), time.monotonic() + seconds
        try:
            await _locked(descriptor, kind, self._door, deadline)
            await _locked(descriptor, kind, self._room, deadline)
            if kind == fcntl.F_RDLCK:
                _lock(descriptor, fcntl.F_UNLCK, self._door)
        except BaseException:
            hold.release()
            raise
        return hold


def _opened() -> int | None:
    if _SET_LOCK is None:
        return None
    with contextlib.suppress(OSError, StateError):  # what it prevents is rare, and no reason to start nothing
        path = Places.default().ensure().runtime / FILE
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return None


async def _locked(descriptor: int, kind: int, byte: int, deadline: float) -> None:
    """Lock a byte; at the deadline go on without."""
    delay = FIRST_DELAY_SECONDS
    while not _lock(descriptor, kind, byte) and (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(delay, left))
        delay = min(2 * delay, LAST_DELAY_SECONDS)


def _lock(descriptor: int, kind: int, byte: int) -> bool:
    """Tell whether a byte could be locked, or cannot be on this file system."""
    assert _SET_LOCK is not None
    try:
        # struct flock of 64-bit Linux: type, whence, start, length, pid (0 is a must here).
        fcntl.fcntl(descriptor, _SET_LOCK, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        return error.errno not in _HELD
    return True
