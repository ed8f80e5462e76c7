"""The machine's end of a transfer: its paths, its scripts, and its faults as errors that name the path."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import re
import secrets
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import MachineError, file_error
from gitmachine.execution import ExecRequest
from gitmachine.transfers.scripts import DISCARD, PROBLEMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from gitmachine.errors import MachineFileError
    from gitmachine.execution import ExecResult
    from gitmachine.machine import Machine

__all__ = ["Spot", "new_name", "script"]

_DISCARD_SECONDS = 20.0

_SAID = {
    "No such file or directory": errno.ENOENT,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "Not a directory": errno.ENOTDIR,
    "Is a directory": errno.EISDIR,
    "File exists": errno.EEXIST,
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "File name too long": errno.ENAMETOOLONG,
    "Too many levels of symbolic links": errno.ELOOP,
}
"""What programs say in the C locale, which the scripts set."""

_SAYINGS = re.compile("|".join(map(re.escape, _SAID)))


def script(
    text: str, *arguments: str, stdin: AsyncIterable[bytes] | bytes | None = None, max_output_bytes: int = 64 * 1024
) -> ExecRequest:
    """Return the request to run a script with positional arguments."""
    argv = ("sh", "-c", text, "gitmachine", *arguments)
    return ExecRequest(argv=argv, stdin=stdin, max_output_bytes=max_output_bytes)


def new_name() -> str:
    """Return a name that nobody uses."""
    return f".gitmachine-{secrets.token_hex(8)}"


@attrs.frozen
class Spot:
    """A path in a machine that something is moved to or from.

    Attributes:
        machine: whose path it is.
        operation: ``upload`` or ``download``, for messages.
        given: the path as it was given, for messages.
    """

    machine: Machine
    operation: str
    given: str

    def __attrs_post_init__(self) -> None:
        if not self.given or "\0" in self.given:
            raise self.failed(errno.ENOENT)

    @property
    def path(self) -> str:
        """The absolute path; a slash at its end is kept off, but for the root."""
        whole = posixpath.join(self.machine.workdir, self.given)
        return whole.rstrip("/") or "/"

    @property
    def parent(self) -> str:
        """The path of the directory that holds it."""
        return posixpath.dirname(self.path)

    @property
    def name(self) -> str | None:
        """What it is called in its directory; None when only its content can be meant: the path ends in / or a dot."""
        name = posixpath.basename(posixpath.join(self.machine.workdir, self.given))
        return None if name in {"", ".", ".."} else name

    def failed(self, number: int, reason: str | None = None) -> MachineFileError:
        """Return the error for an errno."""
        said = reason or os.strerror(number).lower()
        message = f"cannot {self.operation} {self.given!r}: {said} in the machine"
        fields = {"machine_id": self.machine.id, "provider": self.machine.provider, "operation": self.operation}
        return file_error(number, message, path=self.given, **fields)

    def refused(self, error: Exception, number: int) -> MachineFileError:
        """Return the error for an archive of the machine that was refused."""
        fields = {"machine_id": self.machine.id, "provider": self.machine.provider, "operation": self.operation}
        return file_error(number, f"cannot {self.operation} {self.given!r}: {error}", path=self.given, **fields)

    def fault(self, result: ExecResult) -> MachineFileError:
        """Return the error for a script that failed."""
        stated = PROBLEMS.get(result.exit_code)
        said = _SAYINGS.search(result.stderr)
        number = _SAID[said.group()] if said else errno.EIO
        if stated is not None:  # ls says why a source is not there
            return self.failed(number if stated == "ENOENT" and said else getattr(errno, stated))
        if number == errno.EEXIST:  # mkdir -p says so of a file where a directory has to be
            number = errno.ENOTDIR
        detail = result.stderr.strip()[-300:] or f"a command ended with exit code {result.exit_code}"
        return self.failed(number, f"{os.strerror(number).lower()} ({detail})")

    async def good(self, request: ExecRequest) -> ExecResult:
        """Run a script that has to succeed."""
        result = await self.machine.execute(request)
        if result.exit_code != 0:
            raise self.fault(result)
        return result

    async def discard(self, *paths: str) -> None:
        """Remove what was made on the way, as well as it goes; a cancellation does not stop it."""

        async def remove() -> None:
            with contextlib.suppress(MachineError, TimeoutError):  # why it is removed matters more
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await self.machine.execute(script(DISCARD, *paths))

        task = asyncio.ensure_future(remove())
        _discarding.add(task)
        task.add_done_callback(_discarding.discard)
        await asyncio.shield(task)


_discarding: set[asyncio.Task[None]] = set()
"""Removals that go on after their caller was cancelled a second time: somebody must hold them."""
