"""How the daemon describes files: `EntryInfo` of envd 0.6.13 (reference, 2.5)."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from support.e2b.envd.connect import ConnectError, Message
from support.e2b.envd.metadata import load
from support.e2b.versions import at_least

_TYPES = {stat.S_IFREG: "FILE_TYPE_FILE", stat.S_IFDIR: "FILE_TYPE_DIRECTORY"}
_LETTERS = {stat.S_IFDIR: "d", stat.S_IFLNK: "L", stat.S_IFIFO: "p", stat.S_IFSOCK: "S", stat.S_IFBLK: "D"}


def entry(path: str, version: str) -> Message:
    """Describe a path; a link reports its target's type and mode, or neither when it dangles.

    Raises:
        OSError: there is nothing.
    """
    own = os.lstat(path)
    shown: os.stat_result | None = own
    link = stat.S_ISLNK(own.st_mode)
    info: dict[str, object] = {"name": Path(path).name, "path": path}
    if link:
        try:
            shown = os.stat(path)  # noqa: PTH116 -- paths are text here, also odd ones
            info["symlinkTarget"] = os.path.realpath(path)
        except OSError:
            shown, info["symlinkTarget"] = None, path
    if shown is not None and (kind := _TYPES.get(stat.S_IFMT(shown.st_mode))):
        info["type"] = kind
    mode = 0 if shown is None else stat.S_IMODE(shown.st_mode)
    size = own.st_size if shown is None else shown.st_size
    info |= ({"size": str(size)} if size else {}) | ({"mode": mode} if mode else {})
    info["permissions"] = permissions((shown or own).st_mode)
    info["owner"], info["group"] = _owner(own.st_uid), _group(own.st_gid)
    info["modifiedTime"] = _timestamp(own.st_mtime_ns)
    if at_least(version, "0.6.2") and not link and (metadata := load(path)):
        info["metadata"] = metadata
    if link and at_least(version, "0.7.0"):
        info["isSymlink"] = True
    return info


def permissions(mode: int) -> str:
    """Write a mode as Go does: `-rw-r--r--`, `drwxr-xr-x`, `Lrwxrwxrwx`."""
    letters = _LETTERS.get(stat.S_IFMT(mode), "")
    for bit, letter in ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t")):
        if mode & bit:
            letters += letter
    return (letters or "-") + stat.filemode(mode & 0o777)[1:]


def _timestamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if rest == 0:
        return text + "Z"
    digits = f"{rest:09d}"
    while digits.endswith("000"):  # protojson writes 3, 6 or 9 of them
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


@contextlib.contextmanager
def failures(path: str) -> Iterator[None]:
    """Turn an operating system's error into the daemon's."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConnectError("not_found", f"path not found: {path}") from error
    except NotADirectoryError as error:
        raise ConnectError("invalid_argument", f"path is not a directory: {path}") from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        raise ConnectError("internal", f"{name}: {error.strerror}: {path}") from error
