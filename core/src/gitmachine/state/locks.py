"""One lock file for each machine: shared for what may go on together, exclusive for what may not.

The kernel releases a lock when its holder dies, so there are no heartbeats and nothing goes stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.errors import StateError
from gitmachine.state.places import make_private

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["MachineLock"]

FIRST_DELAY_SECONDS = 0.001
LAST_DELAY_SECONDS = 0.05

COURTESY_SECONDS = 1.0
"""How long a newcomer lets somebody who waits for the exclusive lock go first; without it a steady flow of shared
holders would keep them out for ever. Bounded, because the newcomer may act for a holder that they wait for."""

MAX_NOTE_BYTES = 4096

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A full disk must not keep anybody from stopping a machine."""


class MachineLock:
    """A lock between processes, and between the tasks of one process.

    Not re-entrant: whoever holds it shared and asks for it exclusively waits for themselves until the deadline.
    """

    def __init__(self, path: Path) -> None:
        """Name the lock's file; it is made on first use and never removed."""
        self.path = path
        self._waiting_path = path.with_name(path.name + ".waiting")

    @contextlib.asynccontextmanager
    async def shared(self, timeout_seconds: float, what: str = "use") -> AsyncIterator[None]:
        """Hold the lock together with others; `what` is said of us to those who wait.

        Raises:
            StateError: at the deadline; names the holder's pid and what it does.
        """
        deadline = time.monotonic() + timeout_seconds
        await self._let_waiting_go_first(min(deadline, time.monotonic() + COURTESY_SECONDS))
        descriptor = await self._acquire(fcntl.LOCK_SH, deadline, timeout_seconds, what)
        try:
            yield
        finally:
            os.close(descriptor)

    async def passed(self, timeout_seconds: float, what: str = "use") -> None:
        """Wait until nobody holds the lock alone, or waits for that, and take hold of nothing.

        Raises:
            StateError: at the deadline; names the holder's pid and what it does.
        """
        if not self._waiting_path.exists():
            descriptor = self._try(fcntl.LOCK_SH)
            if descriptor is not None:
                os.close(descriptor)
                return
        async with self.shared(timeout_seconds, what=what):
            return

    @contextlib.asynccontextmanager
    async def exclusive(self, timeout_seconds: float, what: str = "change") -> AsyncIterator[None]:
        """Hold the lock alone; `what` is said of us to those who wait.

        Raises:
            StateError: at the deadline; names the holder's pid and what it does.
        """
        deadline = time.monotonic() + timeout_seconds
        descriptor = self._try(fcntl.LOCK_EX)
        if descriptor is None:
            # One sign for all who wait exclusively; who does not get it waits behind the one who has it.
            sign = self._sign()
            try:
                descriptor = await self._acquire(fcntl.LOCK_EX, deadline, timeout_seconds, what)
            finally:
                if sign is not None:
                    os.close(sign)
        else:
            self._note(descriptor, fcntl.LOCK_EX, what)
        try:
            yield
        finally:
            os.close(descriptor)

    async def _acquire(self, mode: int, deadline: float, timeout_seconds: float, what: str) -> int:
        delay = FIRST_DELAY_SECONDS
        while True:
            descriptor = self._try(mode)
            if descriptor is not None:
                self._note(descriptor, mode, what)
                return descriptor
            left = deadline - time.monotonic()
            if left <= 0:
                holder = self._holder()
                raise StateError(
                    f"waited {timeout_seconds:g} s to {what}: the machine is in use by {holder}; "
                    "wait for it, or end it, then try again",
                    holder=holder,
                )
            await asyncio.sleep(min(delay, left))
            delay = min(delay * 2, LAST_DELAY_SECONDS)

    async def _let_waiting_go_first(self, until: float) -> None:
        while time.monotonic() < until:
            # Opened without O_CREAT: where nobody ever had to wait this costs one failed open.
            with contextlib.suppress(OSError):  # a courtesy only
                sign = _try_file(self._waiting_path, fcntl.LOCK_SH, create=False)
                if sign is None:
                    await asyncio.sleep(FIRST_DELAY_SECONDS * 5)
                    continue
                os.close(sign)
            return

    def _sign(self) -> int | None:
        with contextlib.suppress(OSError):  # a courtesy only
            return _try_file(self._waiting_path, fcntl.LOCK_EX)
        return None

    def _try(self, mode: int) -> int | None:
        try:
            try:
                return _try_file(self.path, mode)
            except FileNotFoundError:
                make_private(self.path.parent)
                return _try_file(self.path, mode)
        except OSError as error:
            raise StateError(f"cannot use the lock file {str(self.path)!r}: {error.strerror or error}") from error

    def _note(self, descriptor: int, mode: int, what: str) -> None:
        """Write who holds the lock, for the message of those who wait. Nothing is ever decided by it."""
        line = json.dumps({"pid": os.getpid(), "what": what}) + "\n"
        try:
            if mode == fcntl.LOCK_EX or os.fstat(descriptor).st_size > MAX_NOTE_BYTES:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, line.encode())
        except OSError as error:
            if error.errno not in _NO_ROOM:
                os.close(descriptor)
                raise

    def _holder(self) -> str:
        """Say who holds the lock, as ``pid 12 (pause)``."""
        try:
            status = self.path.stat()
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "another process"
        notes: dict[int, str] = {}
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                note = json.loads(line)
                notes[int(note["pid"])] = str(note["what"])
        holders = _kernel_holders(status)
        if holders is not None:
            return ", ".join(f"pid {pid} ({notes.get(pid, 'unknown')})" for pid in holders) or "another process"
        return next((f"pid {pid} ({what})" for pid, what in reversed(notes.items())), "another process")


def _try_file(path: Path, mode: int, *, create: bool = True) -> int | None:
    """Open a file anew and lock it without waiting; None when somebody holds it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            # A file that was removed after we opened it locks nobody out.
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _kernel_holders(status: os.stat_result) -> list[int] | None:
    """Return the pids that hold a flock on a file, from the kernel's list; None where there is none to read."""
    try:
        text = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # proc(5): "1: FLOCK  ADVISORY  WRITE 708 08:02:12517 0 EOF"; who waits has "->" after the number.
    pids: list[int] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK" or fields[5].rpartition(":")[2] != str(status.st_ino):
            continue
        pid = int(fields[4]) if fields[4].lstrip("-").isdigit() else 0
        if pid > 0 and pid not in pids:
            pids.append(pid)
    return pids or None
