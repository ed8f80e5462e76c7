"""Lock files of git in a machine whose git process was killed: nobody else will ever remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.execution import ExecRequest

if TYPE_CHECKING:
    from gitmachine.machine import Machine

__all__ = ["unlock"]

UNLOCK_SECONDS = 60.0

# $1: the repository. Only while no git process works in it: the lock of a living one is none of our business. Without
# /proc nobody can tell, so nothing is removed. Printed: each file that was removed, ended by NUL.
_UNLOCK = r"""
[ -d /proc/self ] && cd -- "$1" || exit 0
here=$(pwd -P)
gitdir=$(git -c safe.directory='*' rev-parse --absolute-git-dir 2>/dev/null) || exit 0
for process in /proc/[0-9]*; do
  name=''
  { read -r name <"$process/comm"; } 2>/dev/null
  case $name in git|git-*) ;; *) continue ;; esac
  case $(readlink "$process/cwd" 2>/dev/null) in "$here"|"$here"/*|"$gitdir"|"$gitdir"/*) exit 0 ;; esac
done
for lock in "$gitdir"/index.lock "$gitdir"/HEAD.lock "$gitdir"/config.lock "$gitdir"/packed-refs.lock; do
  [ ! -f "$lock" ] || { rm -f -- "$lock" && printf '%s\0' "$lock"; }
done
find "$gitdir/refs" -name '*.lock' -type f -exec sh -c 'for f; do rm -f -- "$f" && printf "%s\0" "$f"; done' sh {} +
"""


async def unlock(machine: Machine, path: str) -> tuple[str, ...]:
    """Remove what killed git processes left locked in a repository of a running machine; returns the files."""
    argv = ("sh", "-c", _UNLOCK, "sh", path)
    result = await machine.execute(ExecRequest(argv=argv, timeout=UNLOCK_SECONDS))
    return tuple(file.decode("utf-8", "replace") for file in result.stdout_bytes.split(b"\0") if file)
