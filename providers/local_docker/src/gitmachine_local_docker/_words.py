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


def embedded(script: str, words: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the argv of a shell that runs `script` with `words`, then becomes what is left of them; and its environment.

    The script shifts away the words that are its own. Words and values that are no text are put into its text.

    Raises:
        ConfigError: a variable's name is no text.
    """
    begin, plain = "", []
    odd = any(not _is_text(word) for word in words)
    if odd:
        begin = "set --\n"
        for word in words:
            begin += _decoding("gm_word", word) + 'set -- "$@" "$gm_word"\n'
        begin += "unset gm_word\n"
    for name, value in env.items():
        if _is_text(name) and _is_text(value):
            plain.append(f"{name}={value}")
        elif not _IDENTIFIER.fullmatch(name):
            raise ConfigError(f"the variable {name!r} cannot be given to a command by the Docker engine")
        else:
            begin += _decoding(name, value) + f"export {name}\n"
    return ["sh", "-c", f'{begin}{script}exec "$@"\n', "sh", *(() if odd else words)], plain
