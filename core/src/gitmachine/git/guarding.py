"""The guard's look at files: those changed in a machine before a commit, and those on their way to the remote.

In the machine one script finds large files and, with `grep`, files that may hold a secret; only these are brought here,
where `find_secret` decides. So a commit of many files costs one round trip and their size costs what `grep` costs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import GitError
from gitmachine.execution import ExecRequest
from gitmachine.git import shell
from gitmachine.git.failures import git_error
from gitmachine.git.ignored import matcher
from gitmachine.git.parsing import decode, encode
from gitmachine.git.secrets import GREP, find_secret, is_secret_file
from gitmachine.outcomes import Withhold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from gitmachine.execution import ExecResult
    from gitmachine.git.model import Changes, GuardOptions
    from gitmachine.git.outgoing import OutgoingCommits, OutgoingFile

__all__ = ["MAX_SCANNED_BYTES", "Finding", "vet_changes", "vet_outgoing"]

MAX_SCANNED_BYTES = 8 * 1024 * 1024
"""Larger files are not looked into."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""How much of suspicious files one look brings here; what is more is looked at before the push."""

MAX_NAMED = 200
"""How many files are looked into for their name alone."""

FEW = 20
"""So many changed files can be arguments: a path has 4 KiB at most."""

VET_SECONDS = 120.0
"""How long the look into a machine may take."""

_VET = r"""
limit=$1 cap=$2 most=$3 pattern=$4 few=$5
shift 5
open_repository
if [ -n "$few" ]; then
  # All paths are here. Mostly there is nothing to tell of them, which takes a few processes.
  large=''
  [ -z "$limit" ] || large=$(find "$@" -prune -type f -size "+${limit}c" -print 2>/dev/null)
  if [ -z "$large" ]; then
    [ -n "$pattern" ] || exit 0
    find "$@" -prune -type f ! -size "+${cap}c" -print0 2>/dev/null |
      xargs -0 grep -q -E -e "$pattern" -- 2>/dev/null || exit 0
  fi
  set --
fi
scratch
cat >"$tmp/paths" || fail scratch
exec </dev/null
if [ -n "$limit" ]; then
  xargs -0 sh -c 'limit=$1; shift; [ $# -eq 0 ] || find "$@" -prune -type f -size "+${limit}c" -print0' sh "$limit" \
    <"$tmp/paths" 2>/dev/null >"$tmp/large"
  lfs=''
  [ ! -s "$tmp/large" ] || ! git lfs version >/dev/null 2>&1 || lfs=yes
  [ ! -s "$tmp/large" ] || xargs -0 sh -c '
    eval "$1"; lfs=$2; shift 2
    for p; do
      case $lfs$(g check-attr filter -- "$p") in yes*": filter: lfs") continue ;; esac
      field @large "$p" "$(wc -c <"$p" | tr -d " ")"
    done' sh "$library" "$lfs" <"$tmp/large"
fi
[ -n "$pattern" ] || exit 0
xargs -0 sh -c 'cap=$1; shift; [ $# -eq 0 ] || find "$@" -prune -type f ! -size "+${cap}c" -print0' sh "$cap" \
  <"$tmp/paths" 2>/dev/null >"$tmp/small"
# Most changes hold nothing: many files by one process, and each by itself only where one of them matched.
xargs -0 -n 64 sh -c '
  pattern=$1
  shift
  [ $# -gt 0 ] && grep -q -E -e "$pattern" -- "$@" || exit 0
  for p; do ! grep -q -E -e "$pattern" -- "$p" || printf "%s\0" "$p"; done' sh "$pattern" \
  <"$tmp/small" 2>/dev/null >"$tmp/suspects"
[ $# -eq 0 ] || find "$@" -prune -type f ! -size "+${cap}c" -print0 2>/dev/null >>"$tmp/suspects"
[ ! -s "$tmp/suspects" ] || xargs -0 sh -c '
  cap=$1 left=$2 copy=$3
  shift 3
  for p; do
    head -c "$cap" <"$p" >"$copy" 2>/dev/null || continue
    size=$(wc -c <"$copy" | tr -d " ")
    [ "$size" -le "$left" ] || continue
    left=$((left - size))
    printf "@text\0%s\0%s\0" "$p" "$size"
    cat "$copy"
  done' sh "$cap" "$most" "$tmp/copy" <"$tmp/suspects"
"""
"""Arguments: the largest size that is fine or "", the largest to look into, how much text to print, the pattern or "",
``few`` or "", then all paths, or else those to look into for their name. Standard input: all paths. Each path begins
with ``./``.

Prints ``@large`` path size, and ``@text`` path size content.
"""


@attrs.frozen
class Finding:
    """A file on its way to the remote that the guard would stop."""

    file: OutgoingFile
    reason: str


async def vet_changes(
    execute: Callable[[ExecRequest], Awaitable[ExecResult]], path: str, changes: Changes, options: GuardOptions
) -> tuple[Withhold, ...]:
    """Find the changed files that no commit should hold; deletions hold nothing.

    Args:
        execute: runs a command in the machine.
        path: the repository's path there.
        changes: what would be committed.
        options: what to look for.

    Raises:
        GitError, MachineError: the machine could not be asked.
    """
    allowed = matcher(options.allow)
    paths = [change.path for change in changes.files if change.status != "D" and not allowed(change.path)]
    if not paths or not (options.secrets or options.max_file_bytes):
        return ()
    named = [f"./{path}" for path in paths if is_secret_file(path)][:MAX_NAMED] if options.secrets else []
    args = (
        str(options.max_file_bytes or ""),
        str(MAX_SCANNED_BYTES),
        str(MAX_TEXT_BYTES),
        GREP if options.secrets else "",
        "" if named or len(paths) > FEW else "few",
        *(named if named or len(paths) > FEW else [f"./{path}" for path in paths]),
    )
    request = ExecRequest(
        argv=shell.arguments(_VET, *args),
        cwd=path,
        stdin=encode("".join(f"./{path}\0" for path in paths)),
        timeout=VET_SECONDS,
        max_output_bytes=8 * MAX_TEXT_BYTES,
    )
    result = await execute(request)
    if result.exit_code:
        raise git_error("vet", result, path=path, failed=GitError, redact=str)
    if result.truncated:
        raise GitError("the machine printed more than the guard asked for")
    found: dict[str, str] = {}
    for name, reason in _reasons(result.stdout_bytes, options):
        found.setdefault(name, reason)
    return tuple(Withhold(name, reason) for name, reason in found.items())


def _reasons(output: bytes, options: GuardOptions) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(output):
        fields = []
        for _ in range(3):
            end = output.index(b"\0", position)
            fields.append(output[position:end])
            position = end + 1
        kind, name, size = fields
        path = decode(name.removeprefix(b"./"))
        if kind == b"@large":
            yield path, _too_large(int(size), options)
        else:
            content = output[position : position + int(size)]
            position += int(size)
            secret = find_secret(path, content)
            if secret is not None:
                yield path, f"it seems to hold {secret}"


async def vet_outgoing(commits: OutgoingCommits, options: GuardOptions) -> tuple[Finding, ...]:
    """Find the files that a push would publish and should not, in the commits as they are on this host."""
    allowed = matcher(options.allow)
    found: list[Finding] = []
    scanned: list[OutgoingFile] = []
    for file in await commits.files():
        if allowed(file.path):
            continue
        if options.max_file_bytes and file.size_bytes > options.max_file_bytes:
            found.append(Finding(file, _too_large(file.size_bytes, options)))
        elif options.secrets and file.size_bytes <= MAX_SCANNED_BYTES:
            scanned.append(file)
    async for file, data in commits.contents(scanned):
        # On a thread: a push may hold a lot, and the loop has other sessions.
        secret = await asyncio.to_thread(find_secret, file.path, data)
        if secret is not None:
            found.append(Finding(file, f"it seems to hold {secret}"))
    return tuple(found)


def _too_large(size: int, options: GuardOptions) -> str:
    return f"it is larger than {_mebibytes(options.max_file_bytes)} ({_mebibytes(size)})"


def _mebibytes(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 else f"{size} bytes"
