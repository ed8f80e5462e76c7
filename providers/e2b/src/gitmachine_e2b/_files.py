"""Files and directories of a sandbox, as its daemon offers them: HTTP for contents, calls for everything else."""

from __future__ import annotations

import contextlib
import gzip as gzip_codec
import secrets
from typing import TYPE_CHECKING, Any

import httpx

from gitmachine_e2b import _http
from gitmachine_e2b._envd import decode_json, json_of, refused
from gitmachine_e2b._errors import Refusal, refusal_of, transport_errors
from gitmachine_e2b._records import (
    Entry,
    EntryAnswer,
    FileEvent,
    Listing,
    WatchMessage,
    Written,
    structure,
    structure_all,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping

    from gitmachine_e2b._envd import Envd

IDLE_SECONDS = 60.0
"""How long a transfer may stand still; it has no other limit."""
FILE, DIRECTORY = "FILE_TYPE_FILE", "FILE_TYPE_DIRECTORY"


class Files:
    """The file service of one sandbox. The daemon acts as root: users only get what they own, and their ``~``."""

    def __init__(self, envd: Envd) -> None:
        self._envd = envd

    # Contents

    @contextlib.asynccontextmanager
    async def download(
        self,
        path: str,
        *,
        user: str | None = None,
        first: int | None = None,
        last: int | None = None,
        gzip: bool = False,
    ) -> AsyncIterator[tuple[AsyncIterator[bytes], int | None]]:
        """Read a file; gives its pieces and how many bytes there will be, None where that is not said.

        Args:
            path: absolute, or from the user's home.
            user: whose home that is.
            first: the first byte of a range.
            last: the last byte of a range, included.
            gzip: whether it may be compressed on the way; not for ranges.
        """
        headers = {"Accept-Encoding": "gzip" if gzip else "identity", "Accept": "*/*"}
        if first is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        request = self._request("GET", self._query(path, user), headers=headers)
        with transport_errors():
            response = await self._envd.client.send(request, stream=True)
        try:
            if not response.is_success:
                raise await refused(response)
            plain = "content-encoding" not in response.headers
            length = response.headers.get("content-length", "") if plain else ""
            yield _pieces(response), int(length) if length.isdigit() else None
        finally:
            await response.aclose()

    async def upload(
        self,
        path: str,
        content: bytes | AsyncIterable[bytes],
        *,
        size: int | None = None,
        user: str | None = None,
        gzip: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[Written, ...]:
        """Write a file in place, making its directories.

        Args:
            path: absolute, or from the user's home.
            content: the bytes, or their pieces.
            size: how many bytes the pieces have together, where that is known; then no less and no more may come.
            user: whose home that is, and whose file.
            gzip: whether to compress it, if it is no stream.
            metadata: what to keep with the file.
        """
        headers = {f"X-Metadata-{key}": value for key, value in (metadata or {}).items()}
        fields: dict[str, Any]
        if self._envd.address.has(0, 5, 7):
            headers["Content-Type"] = "application/octet-stream"
            if gzip and isinstance(content, bytes):
                headers["Content-Encoding"] = "gzip"
                content = gzip_codec.compress(content)
            fields = {"content": content}
            if size is not None:
                headers["Content-Length"] = str(size)
        elif isinstance(content, bytes):
            fields = {"files": [("file", (path, content, "application/octet-stream"))]}
        else:
            form = _Form(content)
            headers |= form.headers(size)
            fields = {"content": form.pieces()}
        request = self._request("POST", self._query(path, user), headers=headers, **fields)
        with transport_errors():
            response = await self._envd.client.send(request)
        if not response.is_success:
            raise refusal_of(response.status_code, response.headers, response.content)
        return structure_all(json_of(response), Written)

    def _query(self, path: str, user: str | None) -> dict[str, str]:
        acting = self._envd.address.acting(user)
        return {"path": path} | ({} if acting is None else {"username": acting})

    def _request(self, method: str, query: dict[str, str], **fields: Any) -> httpx.Request:
        timeout = httpx.Timeout(IDLE_SECONDS, connect=_http.CONNECT_SECONDS, pool=None)
        return self._envd.client.build_request(method, "/files", params=query, timeout=timeout, **fields)

    # Directories

    async def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Describe what a path leads to."""
        answer = await self._call("Stat", {"path": path}, user, safe=True)
        return structure(answer, EntryAnswer).entry

    async def entries(self, path: str, *, depth: int = 1, user: str | None = None) -> tuple[Entry, ...]:
        """Describe what is below a directory."""
        answer = await self._call("ListDir", {"path": path, "depth": depth}, user, safe=True)
        return structure(answer, Listing).entries

    async def make_dir(self, path: str, *, user: str | None = None) -> bool:
        """Make a directory with its parents; False when it exists."""
        try:
            await self._call("MakeDir", {"path": path}, user)
        except Refusal as refusal:
            if refusal.code == "already_exists":
                return False
            raise
        return True

    async def move(self, source: str, destination: str, *, user: str | None = None) -> Entry:
        """Rename a file or directory, replacing an existing file."""
        answer = await self._call("Move", {"source": source, "destination": destination}, user)
        return structure(answer, EntryAnswer).entry

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory with everything in it; no error when there is nothing."""
        await self._call("Remove", {"path": path}, user, safe=True)

    async def watch(
        self, path: str, *, recursive: bool = False, include_entry: bool = False, user: str | None = None
    ) -> AsyncIterator[FileEvent]:
        """Yield what happens in a directory, for as long as somebody asks.

        Recursive watches need a daemon from 0.1.4, entries one from 0.6.3.
        """
        message: dict[str, Any] = {"path": path, "recursive": recursive}
        if include_entry:
            message["includeEntry"] = True
        async with self._envd.stream("filesystem.Filesystem/WatchDir", message, user=user) as messages:
            async for payload in messages:
                event = structure(decode_json(payload), WatchMessage).filesystem
                if event is not None:
                    yield event

    async def _call(
        self, name: str, message: Mapping[str, Any], user: str | None, *, safe: bool = False
    ) -> dict[str, Any]:
        return await self._envd.call(f"filesystem.Filesystem/{name}", message, user=user, safe=safe)


class _Form:
    """A stream as the one file of a form, which is how daemons before 0.5.7 take it; its name is that of the query."""

    def __init__(self, content: AsyncIterable[bytes]) -> None:
        boundary = secrets.token_hex(16)
        self._content = content
        self._type = f"multipart/form-data; boundary={boundary}"
        self._start = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._end = f"\r\n--{boundary}--\r\n".encode()

    def headers(self, size: int | None) -> dict[str, str]:
        """Return what the request says of it."""
        length = {} if size is None else {"Content-Length": str(len(self._start) + size + len(self._end))}
        return {"Content-Type": self._type, **length}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        yield self._start
        async for piece in self._content:
            yield piece
        yield self._end


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    with transport_errors():
        async for piece in response.aiter_bytes():
            yield piece
