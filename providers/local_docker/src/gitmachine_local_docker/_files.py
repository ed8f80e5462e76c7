"""Files by short scripts, each one command: what they print, and what their failures mean."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from typing import TYPE_CHECKING

from gitmachine.errors import file_error
from gitmachine_local_docker._errors import PROVIDER

if TYPE_CHECKING:
    from gitmachine import ExecResult, MachineError
    from gitmachine.archives import ArchiveError

__all__ = [
    "LIST",
    "MAX_LISTING_BYTES",
    "READ",
    "REFUSED",
    "WRITE",
    "absolute",
    "names_in",
    "refusal",
    "refused_archive",
    "too_large",
]

MAX_LISTING_BYTES = 256 << 20
REFUSED = 97
"""The exit code that says: standard error holds why, in the C locale."""

# $1 the path, $2 how many bytes at most. What `ls` says about a path that is no file is the errno in words; meanwhile
# it may have become one.
READ = f"""\
LC_ALL=C; export LC_ALL
for try in 1 2 3; do
  if [ -f "$1" ]; then
    [ -r "$1" ] || {{ echo "Permission denied" >&2; exit {REFUSED}; }}
    exec head -c "$2" -- "$1"
  fi
  if [ -d "$1" ]; then echo "Is a directory" >&2; exit {REFUSED}; fi
  ls -dL -- "$1" >/dev/null || exit {REFUSED}
done
echo "Invalid argument: it is not a regular file" >&2
exit {REFUSED}
"""

# $1 the path, $2 how many bytes come: an input that was cut off must not become the file.
WRITE = f"""\
LC_ALL=C; export LC_ALL
umask 022
fail() {{ rm -f -- "$tmp"; exit {REFUSED}; }}
file=$1; tmp=
if [ -L "$file" ]; then
  file=$(readlink -f -- "$file") && [ -n "$file" ] || {{ echo "No such file or directory" >&2; exit {REFUSED}; }}
fi
if [ -d "$file" ]; then echo "Is a directory" >&2; exit {REFUSED}; fi
if [ -e "$file" ] && [ ! -f "$file" ] && [ -e "$file" ]; then
  echo "Invalid argument: it is not a regular file" >&2; exit {REFUSED}
fi
dir=${{file%/*}}; dir=${{dir:-/}}
[ -d "$dir" ] || mkdir -p -- "$dir" || exit {REFUSED}
tmp=$dir/.gitmachine-$3.tmp
cat >"$tmp" || fail
size=$(wc -c <"$tmp") || fail
[ "$size" -eq "$2" ] || {{ echo "Input/output error: $size of $2 bytes arrived" >&2; fail; }}
if [ -e "$file" ]; then
  about=$(stat -c '%u:%g %a' -- "$file") || fail
  chown "${{about% *}}" "$tmp" 2>/dev/null
  chmod "${{about#* }}" "$tmp" || fail
fi
mv -f -- "$tmp" "$file" 2>/dev/null && exit 0
# A file that is mounted by itself (/etc/hosts in Docker) cannot be replaced, only overwritten.
cat "$tmp" >"$file" || fail
rm -f -- "$tmp"
"""

# $1 the path. The shell's own patterns and printf: nothing is run, whatever the names are.
LIST = f"""\
LC_ALL=C; export LC_ALL
[ -d "$1" ] || ls -dL -- "$1/." >/dev/null || exit {REFUSED}
cd -P -- "$1" 2>/dev/null && [ -r . ] || {{ echo "Permission denied" >&2; exit {REFUSED}; }}
for name in .[!.]* ..?* *; do
  if [ -e "$name" ] || [ -L "$name" ]; then printf '%s\\0' "$name"; fi
done
"""

_REASONS = (
    ("No such file or directory", errno.ENOENT),
    ("Permission denied", errno.EACCES),
    ("Operation not permitted", errno.EPERM),
    ("Not a directory", errno.ENOTDIR),
    ("Is a directory", errno.EISDIR),
    ("No space left on device", errno.ENOSPC),
    ("Disk quota exceeded", errno.EDQUOT),
    ("Read-only file system", errno.EROFS),
    ("File ?name too long", errno.ENAMETOOLONG),
    ("Too many levels of symbolic links|Symbolic link loop", errno.ELOOP),
    ("Invalid argument", errno.EINVAL),
    ("File exists", errno.ENOTDIR),  # of mkdir, where a part of the path is a file
    ("Directory nonexistent", errno.ENOENT),
    ("Input/output error", errno.EIO),
)


def absolute(path: str, workdir: str, verb: str, machine_id: str | None) -> str:
    """Return a path of the machine as an absolute one.

    Raises:
        MachineFileError: it is none.
    """
    if "\0" in path or not path:
        raise file_error(
            errno.EINVAL if path else errno.ENOENT,
            f"cannot {verb} {path!r} in the machine: expected a path",
            path=path,
            machine_id=machine_id,
            provider=PROVIDER,
            operation=verb,
        )
    return posixpath.join(workdir, path)


def refusal(result: ExecResult, path: str, verb: str, machine_id: str | None) -> MachineError:
    """Return the error for a script that failed."""
    said = result.stderr.strip()
    for pattern, number in _REASONS:
        if re.search(pattern, said):
            reason = os.strerror(number).lower()
            if number in {errno.EINVAL, errno.EIO}:
                reason = said.splitlines()[-1].split(": ", 1)[-1]
            break
    else:
        number, reason = errno.EIO, said or f"the machine's shell exited with {result.exit_code}"
    return file_error(
        number,
        f"cannot {verb} {path!r} in the machine: {reason}",
        path=path,
        machine_id=machine_id,
        provider=PROVIDER,
        operation=verb,
    )


def too_large(path: str, verb: str, max_bytes: int, machine_id: str | None) -> MachineError:
    """Return the error for a file, or a listing, beyond the caller's limit."""
    return file_error(
        errno.EFBIG,
        f"cannot {verb} {path!r} in the machine: it is larger than the limit of {max_bytes} bytes",
        path=path,
        machine_id=machine_id,
        provider=PROVIDER,
        operation=verb,
    )


def refused_archive(error: ArchiveError, path: str, machine_id: str | None) -> MachineError:
    """Return the error for an archive of the machine's that is not taken."""
    return file_error(
        error.errno,
        f"cannot download {path!r} from the machine: {error}",
        path=path,
        machine_id=machine_id,
        provider=PROVIDER,
        operation="download",
    )


def names_in(listing: bytes) -> list[str]:
    """Return the sorted names of a listing; what is no name is left out."""
    names = (os.fsdecode(name) for name in listing.split(b"\0"))
    return sorted(name for name in names if "/" not in name and name not in ("", ".", ".."))
