"""What runs in the machine while files are moved. Data reaches a script as positional arguments, never as its text.

What a script found wrong is its exit code. The scripts need ``sh``, ``mkdir``, ``mv``, ``rm`` and ``cat``; those with
an archive need any ``tar`` (GNU, BusyBox, bsdtar, toybox), that for one file ``wc``, ``touch`` and ``chmod``.
"""

from __future__ import annotations

__all__ = [
    "ARCHIVE",
    "DISCARD",
    "KEEP",
    "LIST",
    "NO_TAR",
    "PLACE",
    "PROBLEMS",
    "SETTLE",
    "SLICE",
    "STEP_FAILED",
    "UNPACK",
]

NO_TAR = 90
"""The exit code of a script that misses its program; then files travel one by one."""
STEP_FAILED = 93

PROBLEMS = {91: "ENOTDIR", 92: "EISDIR", 94: "ENOENT"}
"""Exit codes of the scripts that say by themselves what is wrong: the names of errno."""

_START = r"""
LC_ALL=C; export LC_ALL; unset TAR_OPTIONS CDPATH
"""

# $1 target  $2 "directory" or "other"  $3 parent of the target; what is in the way is only what cannot be merged with.
_MAKE_ROOM = r"""
made=
if [ "$2" = directory ]; then
  if [ ! -d "$1" ]; then
    if [ -e "$1" ] || [ -L "$1" ]; then exit 91; fi
    mkdir -p -- "$1" || exit 93
    made=1
  fi
else
  if [ -d "$1" ]; then exit 92; fi
  mkdir -p -- "$3" || exit 93
fi
"""

# $4 mode and $5 time of a directory that is new  $6 a name nobody uses  $7 a directory with the parts of the archive,
# or nothing when it comes on standard input
UNPACK = (
    _START
    + "command -v tar >/dev/null 2>&1 || exit 90\n"
    + _MAKE_ROOM
    + r"""
unpack() { if [ -n "$2" ]; then cat -- "$2"/part-* | tar -xpf - -C "$1"; else tar -xpf - -C "$1"; fi; }
if [ "$2" = directory ]; then
  cd -- "$1" || exit 93
  unpack . "$7" || exit 93
  if [ -n "$made" ]; then touch -d "@$5" . 2>/dev/null; chmod "$4" . || exit 93; fi
  exit 0
fi
there=$3/$6
trap 'rm -rf -- "$there"' EXIT
mkdir -- "$there" && unpack "$there" "$7" && mv -f -- "$there/content" "$1" || exit 93
"""
)

# $4 mode, $5 time (in UTC, as `touch -t` takes it) and $7 size of a file whose content is the input  $6 a name nobody
# uses. The size is looked at because an input that was cut off ends like a complete one. The memory in which the kernel
# keeps a large file that is to be replaced is let go first (GNU's dd knows how): it serves for the new one.
KEEP = (
    _START
    + "command -v wc >/dev/null 2>&1 || exit 90\n"
    + _MAKE_ROOM
    + r"""
there=$3/$6
trap 'rm -f -- "$there"' EXIT
if [ "$7" -ge 16777216 ] && [ -f "$1" ]; then dd if="$1" iflag=nocache count=0 2>/dev/null; fi
(umask 077 && exec cat >"$there") || exit 93
size=$(stat -c %s -- "$there" 2>/dev/null || wc -c <"$there") || exit 93
[ "$size" -eq "$7" ] || { echo "$size of $7 bytes arrived" >&2; exit 93; }
TZ=UTC0 touch -t "$5" -- "$there" 2>/dev/null
chmod "$4" "$there" && mv -f -- "$there" "$1" || exit 93
"""
)

# $1 source  $2 "content" or "named"  $3 its parent  $4 its name  $5 where the archive goes, or "-"
ARCHIVE = (
    _START
    + r"""
command -v tar >/dev/null 2>&1 || exit 90
ls -d -- "$1" >/dev/null || exit 94
if [ "$5" != - ]; then (umask 077 && mkdir -- "${5%/*}") || exit 93; fi
if [ "$2" = content ]; then
  [ -d "$1" ] || exit 91
  cd -- "$1" && exec tar -cf "$5" . || exit 93
fi
cd -- "$3" && exec tar -cf "$5" "./$4" || exit 93
"""
)

# $1 a file  $2 how many bytes  $3 how many of such pieces come before
SLICE = 'exec dd if="$1" bs="$2" skip="$3" count=1 2>/dev/null'

# $@ what was made on the way
DISCARD = 'rm -rf -- "$@"'

# For a machine without tar: what UNPACK does before the files come.
PLACE = _START + _MAKE_ROOM + "exit 0\n"

# $@ what to do, three words each: d PATH "" (make a directory), j TARGET TEMPORARY (join the pieces TEMPORARY.*),
# l PATH TEXT (make a link), m PATH MODE
SETTLE = (
    _START
    + r"""
while [ $# -ge 3 ]; do
  case $1 in
    d) [ -d "$2" ] || mkdir -p -- "$2" ;;
    j) if [ -d "$2" ]; then exit 92; fi; cat -- "$3".* > "$3" && rm -f -- "$3".* && mv -f -- "$3" "$2" ;;
    l) if [ -d "$2" ] && [ ! -L "$2" ]; then exit 92; fi; rm -f -- "$2" && ln -s -- "$3" "$2" ;;
    m) chmod "$3" "$2" ;;
  esac || exit 93
  shift 3
done
"""
)

# $1 source  $2 what it is called; prints kind, name and text of a link for each entry, ended by zeros
LIST = (
    _START
    + r"""
ls -d -- "$1" >/dev/null || exit 94
walk() {
  if [ -L "$1" ]; then
    printf 'l\0%s\0%s\0' "$2" "$(readlink "$1" && printf x)"
  elif [ -d "$1" ]; then
    if [ ! -r "$1" ] || [ ! -x "$1" ]; then printf 'u\0%s\0\0' "$2"; return; fi
    printf 'd\0%s\0\0' "$2"
    for entry in "${1%/}"/* "${1%/}"/.[!.]* "${1%/}"/..?*; do
      if [ -e "$entry" ] || [ -L "$entry" ]; then walk "$entry" "$2/${entry##*/}"; fi
    done
  elif [ -f "$1" ]; then
    if [ -x "$1" ]; then printf 'x\0%s\0\0' "$2"; else printf 'f\0%s\0\0' "$2"; fi
  else
    printf 's\0%s\0\0' "$2"
  fi
}
walk "$1" "$2"
"""
)
