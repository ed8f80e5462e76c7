"""Words for the engine's API, which is JSON: bytes that are not UTF-8 go in a form that the shell turns back."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from gitmachine import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["embedded"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELLS_OWN = frozenset(
    [
        "BASHOPTS",
        "BASH_ENV",
        "CDPATH",
        "ENV",
        "EUID",
        "GROUPS",
        "IFS",
        "LINENO",
        "OLDPWD",
        "OPTIND",
        "PPID",
        "PS4",
        "PWD",
        "SHELLOPTS",
        "UID",
        "_",
    ]
)
"""What a shell would take for itself, or stumble over, on its way to the command."""


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoding(variable: str, word: str) -> str:
    """Return script that sets a variable to bytes of any kind; the x keeps a final newline."""
    octal = "".join(f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"{variable}=$(printf {shlex.quote(octal + 'x')}); {variable}=${{{variable}%x}}\n"


def embedded(
    script: str, own: Sequence[str], argv: Sequence[str], env: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the argv of a shell that runs `script` and becomes `argv`; and the environment to give to that shell.

    The script finds the words `own` and shifts them away. What is no text goes into the script's; names that a shell
    would drop go through ``env``. All else stays out of the command line, which the engine logs.

    Raises:
        ConfigError: a variable's name is not UTF-8.
    """
    begin, plain, through = "", [], []
    for name, value in env.items():
        if not _is_text(name):
            raise ConfigError(f"the variable {name!r} cannot be given to a command by the Docker engine")
        if not _IDENTIFIER.fullmatch(name) or name in _SHELLS_OWN:
            through.append(f"{name}={value}")
        elif _is_text(value):
            plain.append(f"{name}={value}")
        else:
            begin += _decoding(name, value) + f"export {name}\n"
    words = [*own, *(("env", "--", *through) if through else ()), *argv]
    if not all(map(_is_text, words)):
        begin += "set --\n"
        for word in words:
            begin += _decoding("gm_word", word) + 'set -- "$@" "$gm_word"\n'
        begin += "unset gm_word\n"
        words = []
    return ["sh", "-c", f'{begin}{script}exec "$@"\n', "sh", *words], plain
