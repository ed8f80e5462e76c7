"""What is started in a sandbox for a command: a small POSIX shell around it.

The daemon reports the end of a process only when nobody holds its output any more, signals only the process itself,
and starts it in a session of its own. So a wrapper starts the command in a new session, with a mark that all its
children inherit (the soft limit of file locks, see `gitmachine.machines.channel`), waits for it, and writes notices of
its end into both streams: the command is over with them, whatever it left behind.

Strings that are no UTF-8 cannot travel in JSON; they are put together inside by printf.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELL = "/bin/sh"

_MARK = 'ulimit -S -w "$m" || ulimit -S -x "$m"; '  # dash has the one letter, bash and busybox the other

# $1 the token  $2 the mark  $3 the input  $4… the command. 1 and 2 of the wrapper itself lead nowhere: shells comment
# on signal deaths there. A command may leave its output non-blocking: hence the repetition.
_WRAPPER = """\
exec 3>&1 4>&2 >/dev/null 2>&1
t=$1 m=$2 i=$3
shift 3
command -v setsid && set -- setsid "$@"
say() {
  n=0
  until printf '\\036%se%s\\036' "$t" "$1" >&"$2"; do n=$((n + 1)); [ "$n" -lt 600 ] || return; sleep 0.1; done
}
RUN
s=$?
say "$s" 3
say '' 4
exit "$s"
"""
_OUTPUT = ">&3 2>&4 3>&- 4>&- )"
_WAYS = {
    "none": f'( {_MARK}exec "$@" </dev/null {_OUTPUT}',
    "open": f'( {_MARK}exec "$@" {_OUTPUT}',
    # no more than fits into a pipe, so that nobody waits for who does not read it
    "text": f'printf %s "$i" | base64 -d | ( {_MARK}exec "$@" {_OUTPUT}',
    "file": f'exec 5<"$i" || exit 125; rm -f -- "$i"; ( {_MARK}exec "$@" <&5 5<&- {_OUTPUT}',
}
WRAPPERS = {way: _WRAPPER.replace("RUN", run) for way, run in _WAYS.items()}
"""The wrapper by where the input comes from: nowhere, the process's input, the argument itself (base64), a file."""
MAX_TEXT_BYTES = 32 << 10

TERMINAL_WRAPPER = f'm=$1; shift; {{ {_MARK}}} 2>/dev/null; exec "$@"'
"""For a command on a terminal, which is a session of its own already. $1 the mark, $2… the command."""

SYNC = """\
while [ $# -gt 2 ]; do
  o=1 e=2
  [ -e "/proc/$1/fd/4" ] && o=3 e=4
  printf '\\036%ss%s\\036' "$2" "$3" >"/proc/$1/fd/$o"
  [ "$4" = tty ] || printf '\\036%ss%s\\036' "$2" "$3" >"/proc/$1/fd/$e"
  shift 4
done 2>/dev/null
"""
"""Writes a notice into the output of wrappers: all that was written before was read before. By fours: the wrapper's
pid, the token, the notice's value, ``tty`` or ``-``."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELLS_OWN = re.compile(
    r"PATH|IFS|ENV|OPTIND|OPTARG|PWD|OLDPWD|PPID|UID|EUID|SHELLOPTS|BASHOPTS|POSIXLY_CORRECT|LC_.*|LANG|LD_.*|BASH.*|PS4"
)
"""Variables that change the shells on the way: they are set for the command alone."""


def is_text(value: str) -> bool:
    """Whether a string can travel in JSON: it holds no bytes that are not UTF-8."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def command_for(argv: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables that give a command its arguments and variables, whatever they hold."""
    plain: dict[str, str] = {}
    odd: list[str] = []
    for name, value in env.items():
        if _NAME.fullmatch(name) and not _SHELLS_OWN.fullmatch(name) and is_text(value):
            plain[name] = value
        else:
            odd.append(f"{name}={value}")
    words = list(argv)
    if words[0].startswith("-") or (odd and "=" in words[0]):
        words = ["sh", "-c", 'exec "$0" "$@"', *words]  # else it were an option of setsid, or a variable for env
    if odd:
        words = ["env", "--", *odd, *words]
    return (words if all(map(is_text, words)) else _put_together(words)), plain


def _put_together(words: Sequence[str]) -> list[str]:
    """Return a command that runs words of which some are no UTF-8."""
    lines, references, texts = [], [], []
    for number, word in enumerate(words):
        if is_text(word):
            texts.append(word)
            references.append(f'"${{{len(texts)}}}"')
            continue
        escapes = "".join(f"\\{byte:03o}" for byte in word.encode("utf-8", "surrogateescape"))
        # a command's output loses its newlines at the end: hence the x
        lines.append(f"a{number}=$(printf '{escapes}x'); a{number}=${{a{number}%x}}")
        references.append(f'"$a{number}"')
    return ["sh", "-c", "\n".join([*lines, f"exec {' '.join(references)}"]), "sh", *texts]
