"""A machine whose processes have ended, killed or with the host: its home is there, so it can be started again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from typing import TYPE_CHECKING

import attrs

from gitmachine import MachineError
from gitmachine_local import _launch, _records
from gitmachine_local._errors import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine_local._records import Record
    from gitmachine_local.config import LocalConfig

__all__ = ["alone", "failure", "launch_again", "tell"]

_log = logging.getLogger("gitmachine.recovery")

LOCK_SECONDS = 60.0
"""How long another process may take to start the machine again."""


@contextlib.asynccontextmanager
async def alone(machine_id: str) -> AsyncIterator[Record | None]:
    """Keep other processes from starting a machine again; give its record, or None when nothing of it is left.

    Raises:
        MachineError: another process has been at it for too long.
    """
    lock = await asyncio.to_thread(_lock, machine_id)
    try:
        record = await asyncio.to_thread(_records.Record.load, machine_id)
        gone = record is None or record.ending is not None or record.first is None or not record.home.is_dir()
        yield None if gone else record
    finally:
        if lock is not None:
            os.close(lock)


def _lock(machine_id: str) -> int | None:
    """Lock a machine's directory, which the kernel unlocks when its descriptor is closed; None when there is none."""
    try:
        lock = os.open(_records.state_directory() / machine_id, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(lock)
                raise MachineError(
                    f"another process has been starting the local machine {machine_id!r} again for {LOCK_SECONDS:g} s: "
                    "end it, then try again",
                    machine_id=machine_id,
                    provider=PROVIDER,
                    operation="connect",
                ) from error
            time.sleep(0.01)
        else:
            return lock


def launch_again(config: LocalConfig, record: Record) -> Record:
    """Make a new first process on a machine's home, with no more network or host than the old one had.

    Raises:
        MachineStartError: no sandbox can be had here any more.
    """
    record.end()
    record.socket.unlink(missing_ok=True)
    as_before = attrs.evolve(config, isolation=record.isolation, network=record.network)
    return _launch.launch(as_before, attrs.evolve(record, first=None, monitor=None))


def tell(record: Record) -> None:
    """Say that a machine is another one than it was."""
    what = "its files are there, what ran in it is not"
    _log.warning(
        "the local machine %s had ended, by itself or with its host, and was started again: %s", record.id, what
    )


def failure(record: Record, error: Exception) -> MachineError:
    """Return the error for a machine that does not start again, from the reason."""
    return MachineError(
        f"the local machine {record.id} has ended and does not start again: {error}; "
        f"its files are still there, in {str(record.home)!r}",
        machine_id=record.id,
        provider=PROVIDER,
        operation="connect",
    )
