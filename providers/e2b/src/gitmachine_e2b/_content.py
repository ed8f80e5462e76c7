"""What a machine owes about files: exact bytes, atomic replacement, any name, each failure as its own error.

The daemon's own file service writes in place, as root, knows no names that are not UTF-8, and reads what is no regular
file without an end. So small contents travel with a script that does the rest, and large ones are placed by one.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import posixpath
import secrets
from typing import TYPE_CHECKING

from gitmachine_e2b._errors import Refusal, errno_of, file_problem
from gitmachine_e2b._files import DIRECTORY, FILE, Files
from gitmachine_e2b._scripts import is_text
from gitmachine_e2b._shell import run_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from gitmachine import MachineError
    from gitmachine.archives import Source
    from gitmachine_e2b._envd import Envd
    from gitmachine_e2b._shell import Answer

MAX_INLINE_BYTES = 64 << 10
"""What travels in a script's argument, of which the kernel takes 128 KiB."""
DEVICES_OF_TEXT = ("/proc/", "/sys/")
"""Files there say that they are empty, and are not."""
REPLACEMENT = "\ufffd"

# Words that are no UTF-8 come as printf's escapes; the x keeps newlines at their end.
_NAME = "t=$(printf '%bx' \"$1\"); t=${t%x}\n"

# $t may become a file, whose directory is made: $d
_ROOM = r"""
if [ -d "$t" ]; then echo 'Is a directory' >&2; exit 1; fi
d=${t%/*}
if [ -e "${d:-/}" ] && [ ! -d "${d:-/}" ]; then echo 'Not a directory' >&2; exit 1; fi
mkdir -p -- "${d:-/}" || exit 1
"""

# $1 the target  $2 the uploaded file, or nothing  $3 the content in base64  $4 a name that nobody uses
PLACE = (
    _NAME
    + r"""
if [ -L "$t" ]; then t=$(readlink -f -- "$t" && printf x); t=${t%?x}; fi
"""
    + _ROOM
    + r"""
n=$d/$4
trap 'rm -f -- "$n"' EXIT
if [ -n "$2" ]; then
  mv -f -- "$2" "$n" || exit 1
else
  printf %s "$3" | base64 -d >"$n" || exit 1
fi
if [ -e "$t" ]; then chmod "$(stat -c %a -- "$t")" "$n" || exit 1; fi
mv -f -- "$n" "$t" || exit 1
"""
)

# $1 the target  $2 the uploaded file  $3 its mode  $4 its time, as `touch -t` takes it  $5 its size  $6 as above
PLACE_FILE = (
    _NAME
    + _ROOM
    + r"""
n=$d/$6
trap 'rm -f -- "$n"' EXIT
mv -f -- "$2" "$n" || exit 1
[ "$(stat -c %s -- "$n")" = "$5" ] || { echo "Input/output error: not all of it arrived" >&2; exit 1; }
TZ=UTC0 touch -t "$4" -- "$n" || exit 1
chmod "$3" -- "$n" && mv -f -- "$n" "$t" || exit 1
"""
)

# $1 the file  $2 the limit, plus one
READ = (
    _NAME
    + r"""
if [ -d "$t" ]; then echo 'Is a directory' >&2; exit 1; fi
if [ ! -e "$t" ]; then LC_ALL=C ls -d -- "$t"; exit 1; fi
if [ ! -f "$t" ]; then echo 'Not a regular file' >&2; exit 1; fi
exec head -c "$2" <"$t"
"""
)

# $1 the directory
LIST = (
    _NAME
    + r"""
cd -- "$t" || { ls -d -- "$t/."; exit 1; }
ls -d . >/dev/null || exit 1
for f in * .*; do
  case $f in .|..) continue ;; esac
  [ -e "$f" ] || [ -L "$f" ] || continue
  printf '%s\0' "$f"
done
"""
)

# $1 the file; which part of the way is not a directory, ls says
LOOK = _NAME + 'exec ls -d -- "$t"\n'


def escaped(path: str) -> str:
    """Return a path as printf's ``%b`` takes it, whatever bytes it holds."""
    return "".join(chr(byte) if 32 < byte < 127 and byte != 92 else f"\\0{byte:03o}" for byte in os.fsencode(path))


class Content:
    """The files of one sandbox, as the machine contract wants them."""

    def __init__(self, envd: Envd, workdir: str, sandbox_id: str | None) -> None:
        self._envd = envd
        self.files = Files(envd)
        self.workdir = workdir
        self._sandbox_id = sandbox_id

    def path(self, path: str, verb: str) -> str:
        """Return an absolute path."""
        if "\0" in path or not path:
            raise self._problem(errno.EINVAL if path else errno.ENOENT, "expected a path", path, verb)
        return posixpath.join(self.workdir, path)

    def _problem(self, number: int, reason: str, path: str, verb: str) -> MachineError:
        return file_problem(number, reason, path=path, sandbox_id=self._sandbox_id, verb=verb)

    def _said(self, answer: Answer, path: str, verb: str) -> MachineError:
        number = errno_of(answer.errors)
        reason = os.strerror(number).lower() if number != errno.EIO else answer.errors.strip() or "it failed"
        return self._problem(number, reason, path, verb)

    async def _why(self, refusal: Refusal, target: str, path: str, verb: str) -> Exception:
        """Return the file error behind a refusal, or the refusal itself when it is about something else."""
        if refusal.sandbox_gone or refusal.unreachable or refusal.code in ("unauthenticated", "resource_exhausted"):
            return refusal
        if refusal.status == 507:
            return self._problem(errno.ENOSPC, os.strerror(errno.ENOSPC).lower(), path, verb)
        missing = refusal.code == "not_found"
        if not (missing and await self._is_directory(posixpath.dirname(target.rstrip("/")))):
            answer = await run_script(self._envd, LOOK, escaped(target))
            if answer.code != 0:
                return self._said(answer, path, verb)
        if missing:  # or it has come into being in the meantime
            return self._problem(errno.ENOENT, os.strerror(errno.ENOENT).lower(), path, verb)
        number = errno_of(refusal.message)
        return self._problem(number, refusal.message, path, verb)

    async def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        target = self.path(path, "look at")
        if not is_text(target):
            return (await run_script(self._envd, LOOK, escaped(target))).code == 0
        try:
            await self.files.stat(target)
        except Refusal as refusal:
            if refusal.code == "not_found":
                return False
            raise
        return True

    async def _is_directory(self, path: str) -> bool:
        try:
            return (await self.files.stat(path)).type == DIRECTORY
        except Refusal:
            return False

    # Reading

    async def read(self, path: str, max_bytes: int) -> bytes:
        """Return a file's bytes, at most so many."""
        target = self.path(path, "read")
        if not is_text(target) or target.startswith(DEVICES_OF_TEXT):
            return await self._read_by_script(target, path, max_bytes)
        try:
            entry = await self.files.stat(target)
            if entry.type == DIRECTORY:
                raise self._problem(errno.EISDIR, os.strerror(errno.EISDIR).lower(), path, "read")
            if entry.type != FILE:
                # a device, a pipe, or a link to nowhere: the script finds out
                return await self._read_by_script(target, path, max_bytes)
            if entry.size > max_bytes:
                raise self._too_large(path, max_bytes)
            return await self._download(target, path, max_bytes)
        except Refusal as refusal:
            problem = await self._why(refusal, target, path, "read")
            if problem is refusal:
                raise
            raise problem from refusal

    def _too_large(self, path: str, max_bytes: int) -> MachineError:
        return self._problem(errno.EFBIG, f"it is larger than the limit of {max_bytes} bytes", path, "read")

    async def _download(self, target: str, path: str, max_bytes: int) -> bytes:
        kept = bytearray()
        async with self.files.download(target) as (pieces, length):
            async for piece in pieces:
                kept += piece
                if len(kept) > max_bytes:
                    raise self._too_large(path, max_bytes)
        if length is not None and len(kept) != length:
            raise self._problem(errno.EIO, f"{len(kept)} of {length} bytes arrived", path, "read")
        return bytes(kept)

    async def _read_by_script(self, target: str, path: str, max_bytes: int) -> bytes:
        answer = await run_script(self._envd, READ, escaped(target), str(max_bytes + 1))
        if answer.code != 0:
            raise self._said(answer, path, "read")
        if len(answer.output) > max_bytes:
            raise self._too_large(path, max_bytes)
        return answer.output

    # Writing

    async def write(self, path: str, data: bytes) -> None:
        """Replace a file."""
        target = self.path(path, "write")
        name = f".gitmachine-{secrets.token_hex(8)}"
        if len(data) <= MAX_INLINE_BYTES:
            await self._place(target, path, "", base64.b64encode(data).decode(), name)
            return
        async with self._uploaded(target, path, "write", data, name) as upload:
            await self._place(target, path, upload, "", name)

    async def put(self, source: Source, content: AsyncIterable[bytes], path: str) -> None:
        """Make a copy of this host's file, in place of a file or a link; its content is streamed.

        Args:
            source: what the file is; its size is known.
            content: the file's bytes.
            path: where it goes.
        """
        target = self.path(path, "upload")
        name = f".gitmachine-{secrets.token_hex(8)}"
        async with self._uploaded(target, path, "upload", content, name, source.size) as upload:
            about = (f"{source.mode:o}", source.touched, str(source.size))
            answer = await run_script(self._envd, PLACE_FILE, escaped(target), upload, *about, name)
            if answer.code != 0:
                raise self._said(answer, path, "upload")

    @contextlib.asynccontextmanager
    async def _uploaded(
        self,
        target: str,
        path: str,
        verb: str,
        content: bytes | AsyncIterable[bytes],
        name: str,
        size: int | None = None,
    ) -> AsyncIterator[str]:
        """Have the content in a file beside the target; it is removed after a failure."""
        directory = posixpath.dirname(target)
        upload = posixpath.join(directory if is_text(directory) else "/tmp", f"{name}-up")  # noqa: S108  # a name that nobody can guess
        placed = False
        try:
            try:
                await self.files.upload(upload, content, size=size)
            except Refusal as refusal:
                problem = await self._why(refusal, directory, path, verb)
                if problem is refusal:
                    raise
                raise problem from refusal
            yield upload
            placed = True
        finally:
            if not placed:
                await self._discard(upload)

    async def _place(self, target: str, path: str, upload: str, text: str, name: str) -> None:
        answer = await run_script(self._envd, PLACE, escaped(target), upload, text, name)
        if answer.code != 0:
            raise self._said(answer, path, "write")

    async def _discard(self, upload: str) -> None:
        try:
            await self.files.remove(upload)
        except Exception:  # noqa: BLE001  # the error that brought us here matters more than a file that stays
            return

    # Listing

    async def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory."""
        target = self.path(path, "list")
        if is_text(target):
            try:
                entries = await self.files.entries(target)
            except Refusal as refusal:
                if refusal.code not in ("internal", "unknown"):
                    problem = await self._why(refusal, target, path, "list")
                    if problem is refusal:
                        raise
                    raise self._not_a_directory(problem, refusal, path) from refusal
            else:
                names = [entry.name for entry in entries]
                if not any(REPLACEMENT in name for name in names):
                    return sorted(names)
        # a name that is no UTF-8 does not come through JSON
        answer = await run_script(self._envd, LIST, escaped(target))
        if answer.code != 0:
            raise self._said(answer, path, "list")
        return sorted(os.fsdecode(name) for name in answer.output.split(b"\0") if name)

    def _not_a_directory(self, problem: Exception, refusal: Refusal, path: str) -> Exception:
        """Return the problem of a listing; the daemon calls a file an invalid argument."""
        if refusal.code == "invalid_argument" and getattr(problem, "errno", None) == errno.EIO:
            return self._problem(errno.ENOTDIR, os.strerror(errno.ENOTDIR).lower(), path, "list")
        return problem
