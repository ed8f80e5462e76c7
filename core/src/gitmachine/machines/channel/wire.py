"""One command as the script that a waiting shell is told to run: always one compound command on its own.

bash reads its input byte by byte and others read it in blocks: what follows a command in the stream would be taken
for its input by ``head`` in one and be gone in the other, so nothing follows, and everything is inside of braces.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from gitmachine.machines.channel.quoting import as_bytes, escape_format, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.execution import ExecRequest
    from gitmachine.machines.channel.shell import Shell
    from gitmachine.machines.channel.turn import Turn

__all__ = ["EMBEDDED_BYTES", "LARGEST_WORD_BYTES", "Order", "command_order", "marked_argv", "script_order"]

EMBEDDED_BYTES = 16 << 10
"""Input up to this size stands in the script; it always fits into a pipe, so that nobody waits for its reader."""
LARGEST_WORD_BYTES = (128 << 10) - 1
"""The longest argument that Linux passes to a program (MAX_ARG_STRLEN, with its final NUL)."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a shell keeps for itself (dash refuses OPTIND=x, bash has UID read-only), or what would change how our own
# subshell finds and reads things before it becomes the command: these go through env(1).
_SPECIAL = re.compile(
    r"(?:PATH|IFS|OPTIND|OPTARG|OPTERR|UID|EUID|PPID|GROUPS|SHELLOPTS|RANDOM|SRANDOM|SECONDS|LINENO|HISTCMD|FUNCNAME"
    r"|DIRSTACK|PIPESTATUS|COMP_\w+|EPOCH\w+|POSIXLY_CORRECT|PS4|PWD|OLDPWD|SHLVL|LANG|_|"
    r"(?:LC_|LD_|BASH|GLIBC_|MALLOC_|_gm_)\w*)"
)
_EVALUATE = 'set -- "$(cat)"; exec </dev/null; eval "shift; $1"'
"""Runs a script that is too long for an argument, from the input; leaves no variable and no argument behind."""


@attrs.frozen(kw_only=True)
class Order:
    """What is sent to the process that waits for it.

    Attributes:
        text: the script.
        raw: what is sent once the shell says ``go``, or None.
    """

    text: bytes = attrs.field(repr=False)
    raw: bytes | None = attrs.field(default=None, repr=False)


def script_order(turn: Turn, script: str) -> Order:
    """Return the order to run a script of ours in the waiting shell itself, without a mark."""
    return Order(text=_ordered(turn, b"{\n%s\n}" % script.encode()))


def _ordered(turn: Turn, text: bytes) -> bytes:
    """Return what nobody does but the process that waits in this turn; it exits behind it.

    The empty line is for one that is killed while it waits: bash reads byte by byte, and takes one with it.
    """
    return b'\nif [ "$1" = %d ]; then %s; exit $?; fi\n' % (turn.number, text)


def command_order(
    turn: Turn,
    request: ExecRequest,
    shell: Shell,
    *,
    cwd: str,
    env: Mapping[str, str],
    announce: bool = False,
    count: bool = False,
) -> Order:
    """Return the order to run a command.

    Args:
        turn: the slot's.
        request: its command, and `stdin` when that is bytes.
        shell: the slot's.
        cwd: an absolute path.
        env: what is added to the shell's own environment.
        announce: have ``go`` said as soon as the directory was found.
        count: have said which process id was the last one before the command.
    """
    data = request.stdin if isinstance(request.stdin, bytes) else b""
    argv, script = request.command, None
    if request.shell is not None and len(as_bytes(request.shell)) > LARGEST_WORD_BYTES:
        argv, script = ("sh", "-c", _EVALUATE), as_bytes(request.shell)
    raw = script if script is not None else data if len(data) > EMBEDDED_BYTES else None
    token = turn.token.encode()
    parts = [b'cd -P -- "$_gm_d"']
    if count and shell.counts:
        parts.append(
            b"read -r _gm_x _gm_x _gm_x _gm_x _gm_n </proc/loadavg; printf '\\036%%sat%%s\\n' %s $_gm_n >&3" % token
        )
    if announce or raw is not None:
        parts.append(b"printf '\\036%%sgo\\n' %s >&3" % token)
    leader = _leader(argv, shell, env, turn.mark, session=bool(data) or raw is not None)
    if raw is not None:
        # What the command leaves unread is drained, so that the stream is in step afterwards. Without `head` the rest
        # would be read as a script, by us and then by our parent. No copy of 3 and 4 may outlive the leader.
        parts.append(
            b"{ head -c %d 3>&- 4>&- || kill -9 $PPID $$; } |"
            b" ( ( %s ); _gm_s=$?; cat >/dev/null 3>&- 4>&-; exit $_gm_s )" % (len(raw), leader)
        )
    elif data:
        # Not waited for: a child in the background may hold the reading end.
        parts.append(b"( ( exec 3>&- 4>&-; printf %s ) & ) | ( %s )" % (escape_format(data), leader))
    else:
        parts.append(leader)
    where = quote(cwd if cwd.startswith("/") else f"./{cwd}")
    return Order(
        text=_ordered(
            turn, b"_gm_d=%s; if %s; then %s; else %s; fi" % (where, parts[0], b"; ".join(parts[1:]), _REFUSAL % token)
        ),
        raw=raw,
    )


_REFUSAL = (
    b'if [ -d "$_gm_d" ]; then _gm_s=13; elif [ -e "$_gm_d" ]; then _gm_s=20; else _gm_s=2; fi;'
    b" printf '\\036%%scwd%%s\\n' %s $_gm_s >&3"
)
"""Says with which errno a directory cannot be entered."""


def _leader(argv: tuple[str, ...], shell: Shell, env: Mapping[str, str], mark: str, *, session: bool) -> bytes:
    """Return what makes the command of a shell; with `session`, of a subshell that reads its input."""
    simple = [(name, value) for name, value in env.items() if _is_simple(name)]
    special = [f"{name}={value}" for name, value in env.items() if not _is_simple(name)]
    if special and "=" in argv[0]:
        argv = ("sh", "-c", 'exec "$@"', "sh", *argv)  # env(1) would take it for one more variable
    words = [
        *(["setsid"] if session else []),
        *(["env", "--", *special] if special or argv[0].startswith("-") else []),
        *argv,
    ]
    parts = [b"unset OLDPWD"]
    if simple:
        parts.append(b"export " + b" ".join(name.encode() + b"=" + quote(value) for name, value in simple))
    if mark and shell.mark_option:
        # The process in waiting need not be of its parent's kind: if one letter is wrong, the other is right.
        letters = (shell.mark_option, "w" if shell.mark_option == "x" else "x")
        parts.append(b" || ".join(b"ulimit -S -%s %s" % (letter.encode(), mark.encode()) for letter in letters))
    streams = b">/proc/self/fd/3 2>/proc/self/fd/4" if shell.reopens else b">&3 2>&4"
    stdin = b"" if session else b"</dev/null "
    parts.append(b"exec %s %s%s 3>&- 4>&-" % (b" ".join(map(_word, words)), stdin, streams))
    return b"; ".join(parts)


def _is_simple(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None and _SPECIAL.fullmatch(name) is None


_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def _word(text: str) -> bytes:
    return text.encode() if _PLAIN.fullmatch(text) else quote(text)


def marked_argv(argv: tuple[str, ...], shell: Shell | None, mark: str) -> list[str]:
    """Return a command that marks itself and becomes `argv`; `argv` where processes cannot be marked."""
    if shell is None or not shell.mark_option:
        return list(argv)
    # This `sh` need not be of the slots' kind, so either letter may be the right one.
    return ["sh", "-c", '{ ulimit -S -x "$0" || ulimit -S -w "$0"; } 2>/dev/null; exec "$@"', mark, *argv]
