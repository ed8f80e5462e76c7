"""Files over SFTP, many requests at a time on their way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import posixpath
import secrets
import stat
from typing import TYPE_CHECKING

import asyncssh

from gitmachine_ssh._errors import BROKEN

if TYPE_CHECKING:
    from gitmachine_ssh._link import Line, Link
    from gitmachine_ssh._shells import Shells

__all__ = ["RefusedError", "Sftp", "temporary_name"]

START_SECONDS = 10.0
BLOCK_BYTES = 128 << 10
NEW_MODE = 0o644


class RefusedError(Exception):
    """We refuse a file for what it is; `number` is the errno. No OSError, which would look like a cut connection."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def temporary_name(path: bytes) -> bytes:
    """Return a name beside a file for what is to become it."""
    return posixpath.join(posixpath.dirname(path), b".gitmachine-" + secrets.token_hex(8).encode())


class Sftp:
    """The SFTP session of a link, opened on first use and again with each new connection.

    Where the login prints anything, sshd's external sftp-server cannot be understood: there it is not used.
    """

    def __init__(self, link: Link, shells: Shells) -> None:
        """Open nothing yet."""
        self._link = link
        self._shells = shells
        self._line: Line | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._opening = asyncio.Lock()
        self.off = False
        """Whether it was tried in vain."""

    async def client(self) -> asyncssh.SFTPClient | None:
        """Return the client, or None where there is no SFTP."""
        if self.off:
            return None
        line = await self._link.line()
        if self._client is not None and self._line is line:
            return self._client
        async with self._opening:
            if self._client is not None and self._line is line:
                return self._client
            if self.off or self._shells.noisy:
                self.off = True
                return None
            await self._open(line)
            return self._client

    async def _open(self, line: Line) -> None:
        self._client = None
        try:
            async with asyncio.timeout(START_SECONDS):
                client = await line.ssh.start_sftp_client(path_encoding=None)
        except (asyncssh.SFTPError, TimeoutError, *BROKEN) as error:
            if line.alive or isinstance(error, TimeoutError):
                self.off = True
                return
            raise
        line.sessions += 1
        self._line, self._client = line, client

    async def read(self, client: asyncssh.SFTPClient, path: bytes, max_bytes: int) -> bytes:
        """Return a file's bytes. Raises RefusedError and SFTPError."""
        attrs = await client.stat(path)
        _check_regular(attrs)
        size = attrs.size or 0
        if size > max_bytes:
            raise RefusedError(errno.EFBIG)
        async with client.open(path, "rb", block_size=BLOCK_BYTES) as file:
            data = _binary(await file.read(size + 1))
            while len(data) > size:  # it grows, or it is one of those that are made up as they are read
                size = len(data)
                more = _binary(await file.read(min(max(size, 1 << 16), max_bytes + 1 - size), size))
                data += more
                if len(data) > max_bytes:
                    raise RefusedError(errno.EFBIG)
        return data

    async def write(self, client: asyncssh.SFTPClient, path: bytes, data: bytes) -> None:
        """Replace a file. Raises RefusedError and SFTPError."""
        mode = NEW_MODE
        with contextlib.suppress(asyncssh.SFTPNoSuchFile):
            attrs, path = await asyncio.gather(client.stat(path), client.realpath(path))
            _check_regular(attrs)
            mode = stat.S_IMODE(attrs.permissions or NEW_MODE)
        temporary = temporary_name(path)
        try:
            file = await client.open(temporary, "xb", asyncssh.SFTPAttrs(permissions=0o600), block_size=BLOCK_BYTES)
            try:
                await file.write(data)
                await file.setstat(asyncssh.SFTPAttrs(permissions=mode))
            finally:
                await file.close()
            await client.posix_rename(temporary, path)
        except BaseException:
            with contextlib.suppress(asyncssh.SFTPError, *BROKEN):
                await asyncio.shield(client.remove(temporary))
            raise

    async def make_parents(self, client: asyncssh.SFTPClient, path: bytes) -> None:
        """Make the directories of a file that are missing."""
        await client.makedirs(posixpath.dirname(path), asyncssh.SFTPAttrs(permissions=0o755), exist_ok=True)

    async def names(self, client: asyncssh.SFTPClient, path: bytes) -> list[bytes]:
        """Return the names in a directory."""
        return [bytes(name) for name in await client.listdir(path)]

    def forget(self) -> None:
        """Take another session next time."""
        if self._client is not None:
            self._client.exit()
            self._client = None


def _binary(data: str | bytes) -> bytes:
    assert isinstance(data, bytes)
    return data


def _check_regular(attrs: asyncssh.SFTPAttrs) -> None:
    if stat.S_ISDIR(attrs.permissions or 0):
        raise RefusedError(errno.EISDIR)
    if not stat.S_ISREG(attrs.permissions or stat.S_IFREG):
        raise RefusedError(errno.EINVAL)
