"""What the shell of a session is told for one command that the warm channel does not serve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gitmachine.machines.channel.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["exports", "piped_order", "terminal_order"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = re.compile(
    r"PATH|IFS|UID|EUID|PPID|GROUPS|SHELLOPTS|S?RANDOM|SECONDS|LINENO|DIRSTACK|PIPESTATUS|PS4|PWD|OLDPWD|SHLVL|LANG|_"
    r"|(?:OPT|HIST|FUNC|COMP_|EPOCH|POSIX|LC_|LD_|BASH|GLIBC_|MALLOC_|_gm_)\w*"
)
"""Variables that a shell keeps for itself, or that would change how it finds and reads what it has to do."""

_SETSID = (
    b"_gm_setsid=$(command -v setsid) || { command -v perl >/dev/null && "
    b"_gm_setsid='perl -MPOSIX -e POSIX::setsid();exec{$ARGV[0]}@ARGV --'; }\n"
)
"""Finds a way to give the command a session of its own; macOS has perl but no setsid. It is split at its spaces."""


def exports(env: Mapping[str, str]) -> tuple[bytes, list[bytes]]:
    """Return variables as a line for the shell, and as arguments of ``env`` where the shell would interfere."""
    own, rest = [], []
    for name, value in env.items():
        if _IDENTIFIER.fullmatch(name) and not _RESERVED.fullmatch(name):
            own.append(name.encode() + b"=" + quote(value))
        else:
            rest.append(quote(f"{name}={value}"))
    return (b"export " + b" ".join(own) + b"\n" if own else b""), rest


def _leader(argv: Sequence[str], env: Mapping[str, str], marking: str, go: bytes, become: bytes) -> bytes:
    line, rest = exports(env)
    words = [quote(word) for word in argv]
    if rest and "=" in argv[0]:
        words = [b"sh", b"-c", quote('exec "$@"'), b"sh", *words]  # env would take it for one more variable
    through = [b"env", b"--", *rest] if rest else []
    mark = f"{marking}\n".encode() if marking else b""
    return b"unset OLDPWD\n" + line + mark + go + become + b" ".join([*through, *words])


def _entering(cwd: str, run: bytes) -> bytes:
    """Return the commands that run something in a directory, or say in ``$_gm_s`` why there is none."""
    where = quote(cwd if cwd.startswith("/") else f"./{cwd}")
    why = b"if [ -d %b ]; then _gm_s=cwd13; elif [ -e %b ]; then _gm_s=cwd20; else _gm_s=cwd2; fi" % (where, where)
    return b"if cd -P -- %b; then\n%b\nelse %b\nfi\n" % (where, run, why)


def piped_order(
    token: str, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], marking: str, live: bool
) -> bytes:
    """Return the order to run a command whose input is the session's own (`live`) or empty.

    ``go`` is said when all is read that is script: what the shell gets from then on is the command's.

    Args:
        token: what the shell's words carry.
        argv: the command.
        cwd: where.
        env: what is added to the shell's environment.
        marking: the command that puts the command's mark on the shell that becomes it, or "".
        live: whether the input is open.
    """
    word = token.encode()
    go = b"printf '\\036%bgo\\n' >&3\n" % word
    stdin = b"" if live else b" </dev/null"
    run = b"(\n%b%b >&3 2>&4 3>&- 4>&-\n)\n_gm_s=$?" % (_leader(argv, env, marking, go, b"exec $_gm_setsid "), stdin)
    end = b"printf '\\036%b%%s\\n' \"$_gm_s\" >&3; printf '\\036%b\\n' >&4; exit\n" % (word, word)
    return b"{\nexec 3>&1 4>&2 >/dev/null 2>&1\n" + _SETSID + _entering(cwd, run) + end + b"}\n"


def terminal_order(token: str, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], marking: str) -> bytes:
    """Return the order to become a command on the session's terminal, whose settings come back first."""
    word = token.encode()
    go = b"stty \"$_gm_tty\"; unset _gm_tty _gm_n\nprintf '\\036%bgo\\n'\n" % word
    run = _leader(argv, env, marking, go, b"exec ")
    return _entering(cwd, run) + b"printf '\\036%b%%s\\n' \"$_gm_s\"\n" % word
