"""What goes wrong below this provider, as GitMachine's errors."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gitmachine import InvalidStateError, MachineError
from gitmachine.errors import file_error

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER = "local"


class RemoteFailure(Exception):  # noqa: N818  # not an error until it is known what it was about
    """The supervisor's word that a request failed: an errno and a file name, both from inside the machine."""

    def __init__(self, number: int, filename: bytes) -> None:
        super().__init__(number, filename)
        self.number = number
        self.filename = os.fsdecode(filename)

    @property
    def reason(self) -> str:
        """The errno in words."""
        return os.strerror(self.number).lower()


@contextmanager
def file_errors(machine_id: str | None, operation: str, path: str) -> Iterator[None]:
    """Raise the machine's refusal of a file operation as the matching `MachineFileError`."""
    try:
        yield
    except RemoteFailure as failure:
        reason = "it is larger than the limit" if failure.number == errno.EFBIG else failure.reason
        message = f"cannot {operation} {path!r} in the machine: {reason}"
        name = operation.replace(" ", "_")
        raise file_error(
            failure.number, message, path=path, machine_id=machine_id, provider=PROVIDER, operation=name
        ) from failure


@contextmanager
def spawn_errors(machine_id: str | None, cwd: str) -> Iterator[None]:
    """Raise the machine's refusal to start a command."""
    try:
        yield
    except RemoteFailure as failure:
        if failure.number == errno.EBUSY and not failure.filename:
            raise InvalidStateError(
                "the machine is paused: call resume() first",
                machine_id=machine_id,
                provider=PROVIDER,
                operation="spawn",
            ) from failure
        if failure.filename:
            missing = failure.number == errno.ENOENT
            reason = "does not exist in the machine" if missing else f"cannot be entered: {failure.reason}"
            raise file_error(
                failure.number,
                f"the working directory {cwd!r} {reason}",
                path=cwd,
                machine_id=machine_id,
                provider=PROVIDER,
                operation="spawn",
            ) from failure
        raise MachineError(
            f"the machine cannot start a process: {failure.reason}",
            machine_id=machine_id,
            provider=PROVIDER,
            operation="spawn",
        ) from failure


@contextmanager
def machine_errors(machine_id: str | None, operation: str) -> Iterator[None]:
    """Raise any other refusal, and the host's own lack of something, as a `MachineError`."""
    try:
        yield
    except MachineError:
        raise
    except (RemoteFailure, OSError) as failure:
        reason = failure.reason if isinstance(failure, RemoteFailure) else failure
        raise MachineError(
            f"the machine could not {operation}: {reason}",
            machine_id=machine_id,
            provider=PROVIDER,
            operation=operation,
        ) from failure
