"""File contents by plain HTTP: `GET` and `POST /files` (reference, 2.6)."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import errno
import mimetypes
import os
import re
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from aiohttp import BodyPartReader, web

from support.e2b.envd.accounts import Account, named
from support.e2b.envd.config import EnvdConfig
from support.e2b.envd.connect import STATUS, ConnectError
from support.e2b.envd.filesystem_service import make_parents
from support.e2b.envd.metadata import store
from support.e2b.signatures import sign
from support.e2b.versions import at_least

BLOCK = 256 << 10
_NAMED = "X-Metadata-"


def failed(status: int, message: str) -> web.Response:
    return web.json_response({"code": status, "message": message}, status=status)


class Files:
    """Serves file contents; its callers show a token or a signature."""

    def __init__(self, config: EnvdConfig) -> None:
        self._config = config

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/files", self.download, allow_head=False), web.post("/files", self.upload)]

    def refusal(self, request: web.Request, operation: str) -> web.Response | None:
        """Say why this caller may not, or None; a token in the headers goes before a signature."""
        token, query = self._config.token, request.query
        if token is None:
            return None
        header = request.headers.get("X-Access-Token")
        if header is not None:
            return None if header == token else failed(401, "access token present in header but does not match")
        if "signature" not in query:
            return failed(401, "missing signature query parameter")
        expiry = query.get("signature_expiration")
        wanted = sign(
            query.get("path", ""), operation, query.get("username", ""), token, None if expiry is None else int(expiry)
        )
        if query["signature"] != wanted:
            return failed(401, "invalid signature")
        if expiry is not None and int(expiry) < time.time():
            return failed(401, "signature is already expired")
        return None

    def _path(self, path: str, account: Account) -> str:
        return account.resolve(path, workdir=self._config.workdir)

    # Download

    async def download(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.refusal(request, "read")) is not None:
            return refusal
        try:
            account = named(request.query.get("username"), self._config)
            path = Path(self._path(request.query.get("path", ""), account))
        except ConnectError as error:
            return failed(STATUS[error.code], error.message)
        if path.is_dir():
            return failed(400, f"path '{path}' is a directory")
        try:
            with path.open("rb") as file:
                return await self._send(request, path, file)
        except (FileNotFoundError, NotADirectoryError):
            return failed(404, f"path '{path}' does not exist")

    async def _send(self, request: web.Request, path: Path, file: BinaryIO) -> web.StreamResponse:
        status = os.fstat(file.fileno())
        modified = email.utils.formatdate(int(status.st_mtime), usegmt=True)
        head = file.read(512)
        headers = {
            "Content-Disposition": f"inline; filename={quote(path.name)}",
            "Content-Type": _content_type(path, head),
            "Last-Modified": modified,
        }
        span = request.headers.get("Range")
        coding = _coding(request.headers.get("Accept-Encoding"))
        if coding is None:
            return failed(406, "no acceptable encoding found, supported: [identity gzip]")
        if coding == "gzip" and span is None:
            file.seek(0)
            return await _zipped(request, file, headers)
        headers["Accept-Ranges"] = "bytes"
        if _not_modified(request.headers.get("If-Modified-Since"), status.st_mtime):
            return web.Response(status=304, headers={"Last-Modified": modified})
        first, last, code = 0, status.st_size - 1, 200
        if span is not None and (found := re.fullmatch(r"bytes=(\d*)-(\d*)", span)) and found[0] != "bytes=-":
            first, last = _bounds(found[1], found[2], status.st_size)
            if first > last or first >= status.st_size:
                unsatisfied = {"Content-Range": f"bytes */{status.st_size}"}
                return web.Response(status=416, headers=unsatisfied, text="invalid range: failed to overlap\n")
            headers["Content-Range"] = f"bytes {first}-{last}/{status.st_size}"
            code = 206
        response = web.StreamResponse(status=code, headers={**headers, "Content-Length": str(last - first + 1)})
        await response.prepare(request)
        file.seek(first)
        left = last - first + 1
        while left > 0 and (block := file.read(min(BLOCK, left))):
            left -= len(block)
            await response.write(block)
        return response

    # Upload

    async def upload(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.refusal(request, "write")) is not None:
            return refusal
        try:
            account = named(request.query.get("username"), self._config)
            if request.content_type == "multipart/form-data":
                written = await self._parts(request, account)
            elif request.content_type == "application/octet-stream" and at_least(self._config.version, "0.5.7"):
                if not request.query.get("path"):
                    return failed(400, "path is required for application/octet-stream uploads")
                path = self._path(request.query["path"], account)
                written = [await self._write(request, path, request.content.iter_chunked(BLOCK), account)]
            else:
                return failed(400, f"error parsing multipart form: unsupported content type {request.content_type!r}")
        except ConnectError as error:
            return failed(STATUS[error.code], error.message)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            return failed(507 if full else 500, f"error writing file: {error.strerror}: {error.filename}")
        # Real envd does not name the type, so the sniffed one goes out.
        return web.json_response(written, content_type="text/plain")

    async def _parts(self, request: web.Request, account: Account) -> list[dict[str, object]]:
        only = request.query.get("path")
        written: list[dict[str, object]] = []
        seen: set[str] = set()
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name != "file":
                continue
            if only is not None and written:
                raise ConnectError("invalid_argument", "you cannot upload multiple files when path is given")
            path = self._path(only if only is not None else _filename(part), account)
            if path in seen:
                raise ConnectError("invalid_argument", f"you cannot upload multiple files to the same path '{path}'")
            seen.add(path)
            written.append(await self._write(request, path, _blocks(part), account))
        return written

    async def _write(
        self, request: web.Request, path: str, blocks: AsyncIterator[bytes], account: Account
    ) -> dict[str, object]:
        if Path(path).is_dir():
            raise ConnectError("invalid_argument", f"path is a directory: {path}")
        make_parents(str(Path(path).parent), account)
        metadata = self._metadata(request)
        # In place, not atomic: a file keeps its mode, and a reader may see half of the new contents.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.fchown(fd, account.uid, account.gid)
            async for block in blocks:
                await asyncio.to_thread(_write_all, fd, block)
            store(fd, metadata)
        finally:
            os.close(fd)
        answer: dict[str, object] = {"name": Path(path).name, "path": path, "type": "file"}
        return answer | ({"metadata": metadata} if metadata else {})

    def _metadata(self, request: web.Request) -> dict[str, str]:
        if not at_least(self._config.version, "0.6.2"):
            return {}
        found = {
            name[len(_NAMED) :].lower(): value
            for name, value in request.headers.items()
            if name.lower().startswith(_NAMED.lower())
        }
        if sum(len(key) + len(value) for key, value in found.items()) > 4096 or any(len(key) > 246 for key in found):
            raise ConnectError("invalid_argument", "metadata is too large")
        return found


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _filename(part: BodyPartReader) -> str:
    """Return the whole name: aiohttp's own reading of it takes leading slashes away."""
    found = re.search(r'filename="((?:[^"\\]|\\.)*)"', part.headers.get("Content-Disposition", ""))
    return re.sub(r"\\(.)", r"\1", found[1]) if found else part.filename or ""


async def _blocks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while block := await part.read_chunk(BLOCK):
        yield block


def _content_type(path: Path, head: bytes) -> str:
    guessed, _ = mimetypes.guess_type(path.name)
    if guessed is not None:
        return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
    return "application/octet-stream" if b"\0" in head else "text/plain; charset=utf-8"


def _coding(header: str | None) -> str | None:
    """Choose `identity` or `gzip`; None when the client takes neither."""
    if not header:
        return "identity"
    offered: dict[str, float] = {}
    for item in header.lower().split(","):
        name, _, weight = item.strip().partition(";q=")
        offered[name.strip()] = float(weight or 1)
    if offered.get("gzip", offered.get("*", 0)) > 0:
        return "gzip"
    return None if offered.get("identity", offered.get("*", 1)) == 0 else "identity"


def _not_modified(header: str | None, mtime: float) -> bool:
    if header is None:
        return False
    try:
        since = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return False
    return dt.datetime.fromtimestamp(int(mtime), dt.UTC) <= since


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


async def _zipped(request: web.Request, file: BinaryIO, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    packer = zlib.compressobj(wbits=31)
    while block := file.read(BLOCK):
        if packed := packer.compress(block):
            await response.write(packed)
    await response.write(packer.flush())
    return response
