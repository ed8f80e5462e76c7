"""One command as the script that a slot's shell is told to run: always one compound command on its own.

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
    """What is sent to a slot.

    Attributes:
        token: what its markers carry.
        text: the script.
        raw: what is sent once the shell says ``go``, or None.
    """

    token: str
    text: bytes = attrs.field(repr=False)
    raw: bytes | None = attrs.field(default=None, repr=False)


def script_order(token: str, script: str) -> Order:
    """Return the order to run a script of ours in the slot's shell itself."""
    text = f"{{ _gm_begin ''; {{\n{script}\n}}; _gm_s=$?; _gm_end {token}; }}\n"
    return Order(token=token, text=text.encode())


def command_order(
    token: str,
    request: ExecRequest,
    shell: Shell,
    *,
    cwd: str,
    env: Mapping[str, str],
    mark: str,
    announce: bool = False,
) -> Order:
    """Return the order to run a command.

    Args:
        token: hexadecimal digits that nobody else knows.
        request: its command, and `stdin` when that is bytes.
        shell: the slot's.
        cwd: an absolute path.
        env: what is added to the shell's own environment.
        mark: 18 digits, or "" for none.
        announce: have ``go`` said as soon as the directory was found.
    """
    data = request.stdin if isinstance(request.stdin, bytes) else b""
    argv, script = request.command, None
    if request.shell is not None and len(as_bytes(request.shell)) > LARGEST_WORD_BYTES:
        argv, script = ("sh", "-c", _EVALUATE), as_bytes(request.shell)
    raw = script if script is not None else data if len(data) > EMBEDDED_BYTES else None
    leader = _leader(argv, shell, env, mark, reads=bool(data) or raw is not None)
    go = b"printf '\\036%%sgo\\n' %s >&3; " % token.encode() if announce or raw is not None else b""
    if raw is not None:
        # What the command leaves unread is drained, so that the stream is in step afterwards. Without `head` the rest
        # would be read as a script: its death has to be the shell's. No copy of 3 and 4 may outlive the leader.
        run = (
            b"{ head -c %d 3>&- 4>&- || kill -9 $$; } | ( ( %s ); _gm_s=$?; cat >/dev/null 3>&- 4>&-; exit $_gm_s )"
            % (len(raw), leader)
        )
    elif data:
        # Not waited for: a child in the background may hold the reading end.
        run = b"( ( exec 3>&- 4>&-; printf %s ) & ) | ( %s )" % (escape_format(data), leader)
    else:
        run = b"( %s )" % leader
    where = quote(cwd if cwd.startswith("/") else f"./{cwd}")
    text = b"{ _gm_begin '%s'; if cd -P -- %s; then %s%s; _gm_s=$?; else _gm_where %s; fi; _gm_end %s; }\n" % (
        mark.encode(),
        where,
        go,
        run,
        where,
        token.encode(),
    )
    return Order(token=token, text=text, raw=raw)


def _leader(argv: tuple[str, ...], shell: Shell, env: Mapping[str, str], mark: str, *, reads: bool) -> bytes:
    """Return what the subshell does that becomes the command."""
    simple = [(name, value) for name, value in env.items() if _is_simple(name)]
    special = [f"{name}={value}" for name, value in env.items() if not _is_simple(name)]
    if special and "=" in argv[0]:
        argv = ("sh", "-c", 'exec "$@"', "sh", *argv)  # env(1) would take it for one more variable
    words = ["setsid", *(["env", "--", *special] if special else ["--"] if argv[0].startswith("-") else []), *argv]
    parts = [b"unset OLDPWD"]
    if simple:
        parts.append(b"export " + b" ".join(name.encode() + b"=" + quote(value) for name, value in simple))
    if mark and shell.mark_option:
        parts.append(b"ulimit -S -%s %s" % (shell.mark_option.encode(), mark.encode()))
    streams = b">/proc/self/fd/3 2>/proc/self/fd/4" if shell.reopens else b">&3 2>&4"
    stdin = b"" if reads else b"</dev/null "
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
