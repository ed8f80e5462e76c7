"""The machine's files: over SFTP where there is one, else by the shell; every refusal as the error it is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
from typing import TYPE_CHECKING

import asyncssh

from gitmachine import MachineLostError
from gitmachine.errors import file_error
from gitmachine_ssh import _filescripts as scripts
from gitmachine_ssh._errors import PROVIDER, session_errors
from gitmachine_ssh._scripts import GONE
from gitmachine_ssh._sftp import RefusedError, Sftp, temporary_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gitmachine_ssh._link import Link
    from gitmachine_ssh._shells import Answer, Shells

__all__ = ["Files"]

FILE_SECONDS = 280.0
"""How long one file may take: less than the core's own deadline, after which it would take the machine for lost."""
_WORDS = {
    errno.EFBIG: "it is larger than the limit",
    errno.EINVAL: "it is not a regular file",
    errno.EIO: "the host refused it and does not say why",
}
_SAID = {asyncssh.SFTPNoSuchFile: errno.ENOENT, asyncssh.SFTPPermissionDenied: errno.EACCES}


class Files:
    """File operations of one machine over one link."""

    def __init__(
        self,
        link: Link,
        shells: Shells,
        *,
        machine_id: str,
        directory: str,
        feed: Callable[[str, bytes], Awaitable[int]],
    ) -> None:
        """Work in a machine.

        Args:
            link: the way to the host.
            shells: for scripts.
            machine_id: for messages.
            directory: the machine's own; it is gone when the label in it is.
            feed: runs a script with this input and returns its status.
        """
        self.sftp = Sftp(link, shells)
        self._link = link
        self._shells = shells
        self._id = machine_id
        self._label = os.fsencode(posixpath.join(directory, "label"))
        self._home = posixpath.join(directory, "home")
        self._feed = feed

    async def read(self, path: str, max_bytes: int) -> bytes:
        """Return a file's exact bytes."""
        target = self._path(path, "read")
        client = await self.sftp.client()
        if client is not None:
            try:
                async with self._answered("read_file"):
                    return await self.sftp.read(client, target, max_bytes)
            except (RefusedError, asyncssh.SFTPError) as error:
                raise await self._refusal("read", path, target, error) from error
        answer = await self._run(scripts.read_script(self._label, target, max_bytes), "read_file")
        self._check(answer.status, "read", path)
        if len(answer.stdout) > max_bytes:
            raise self._error(errno.EFBIG, "read", path)
        return answer.stdout

    async def write(self, path: str, data: bytes) -> None:
        """Replace a file atomically."""
        target = self._path(path, "write")
        if target.endswith(b"/"):
            raise self._error(errno.EISDIR, "write", path)
        client = await self.sftp.client()
        if client is None:
            script = scripts.write_script(self._label, target, temporary_name(target), len(data))
            self._check(await self._feed(script, data), "write", path)
            return
        try:
            async with self._answered("write_file"):
                try:
                    await self.sftp.write(client, target, data)
                except asyncssh.SFTPNoSuchFile:
                    # Only in a machine that is still there: a new directory of a removed one would be nobody's.
                    await client.stat(self._label)
                    await self.sftp.make_parents(client, target)
                    await self.sftp.write(client, target, data)
        except (RefusedError, asyncssh.SFTPError) as error:
            raise await self._refusal("write", path, target, error, len(data)) from error

    async def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory."""
        target = self._path(path, "list")
        client = await self.sftp.client()
        if client is not None:
            try:
                async with self._answered("list_files"):
                    found = await self.sftp.names(client, target)
            except (RefusedError, asyncssh.SFTPError) as error:
                raise await self._refusal("list", path, target, error) from error
        else:
            answer = await self._run(scripts.list_script(self._label, target), "list_files")
            self._check(answer.status, "list", path)
            found = answer.stdout.split(b"\0")
        return sorted(os.fsdecode(name) for name in set(found) if b"/" not in name and name not in (b"", b".", b".."))

    @contextlib.asynccontextmanager
    async def _answered(self, operation: str) -> AsyncIterator[None]:
        """Bound what SFTP may take: one request for something that never comes holds up all that follow."""
        with session_errors(self._link.where, self._id, operation):
            try:
                async with asyncio.timeout(FILE_SECONDS):
                    yield
            except TimeoutError:
                self.sftp.forget()
                raise

    def _path(self, path: str, verb: str) -> bytes:
        if "\0" in path or not path:
            raise self._error(errno.EINVAL if path else errno.ENOENT, verb, path)
        return posixpath.join(self._home, path).encode("utf-8", "surrogateescape")

    async def _run(self, script: bytes, operation: str) -> Answer:
        return await self._shells.run(script, seconds=FILE_SECONDS, operation=operation)

    async def _refusal(
        self, verb: str, path: str, target: bytes, error: RefusedError | asyncssh.SFTPError, size: int = 0
    ) -> Exception:
        """Return what to raise for a refusal; SFTP itself tells little more than that it is one."""
        if isinstance(error, RefusedError):
            return self._error(error.number, verb, path)
        answer = await self._run(scripts.why_script(self._label, verb, target, size), f"{verb}_file")
        number = answer.status
        if number == errno.EIO:
            # Nothing is wrong with it any more: go by what was said then.
            number = next((number for kind, number in _SAID.items() if isinstance(error, kind)), number)
        try:
            self._check(number or errno.EIO, verb, path)
        except (OSError, MachineLostError) as refusal:
            return refusal
        return error

    def _check(self, status: int, verb: str, path: str) -> None:
        if status == GONE:
            raise MachineLostError(
                f"the machine {self._id} is not on {self._link.where} any more: its directory is gone",
                machine_id=self._id,
                provider=PROVIDER,
                operation=f"{verb}_file",
            )
        if status != 0:
            raise self._error(status, verb, path)

    def _error(self, number: int, verb: str, path: str) -> OSError:
        reason = _WORDS.get(number) or os.strerror(number).lower()
        return file_error(
            number,
            f"cannot {verb} {path!r} in the machine: {reason}",
            path=path,
            machine_id=self._id,
            provider=PROVIDER,
            operation="list_files" if verb == "list" else f"{verb}_file",
        )
