"""Text that may stand for another type, and the `${VAR}` of configuration files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

__all__ = ["Loose", "escape", "expand", "join", "loosen", "variables"]

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>[^}]*))?\}|\$\{[^}]*\}?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Loose(str):
    """Text from a variable, an option or an expansion: it may stand for a number, a truth value or a list.

    Text that was written in a file as a string is a plain `str` and stays text.
    """

    __slots__ = ("shown",)
    shown: str | None
    """What messages show in place of the value, which may be a secret; None shows the value itself."""

    def __new__(cls, value: str, shown: str | None = None) -> Self:
        """Make it from a value, and optionally from what messages show of it."""
        self = super().__new__(cls, value)
        self.shown = shown
        return self


def join(path: str, key: str) -> str:
    """Return the path of a key in a table, quoting the key where TOML would have to."""
    if not _BARE_KEY.fullmatch(key):
        key = '"' + key.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    return f"{path}.{key}" if path else key


def _expand_text(text: str, environ: Mapping[str, str], path: str, problems: list[str]) -> str:
    if "${" not in text:
        return text
    expanded = False

    def replace(match: re.Match[str]) -> str:
        nonlocal expanded
        if match[0] == "$${":
            return "${"
        name = match["name"]
        if name is None:
            problems.append(f"cannot read {match[0]!r} @ {path}: write ${{NAME}}, or $${{ for a plain ${{")
            return ""
        expanded = True
        value = environ.get(name)
        if match["or"] is not None:
            return value or match["default"]
        if value is None:
            problems.append(f"the variable {name} is not set @ {path}: set it or write ${{{name}:-default}}")
            return ""
        return value

    result = _REFERENCE.sub(replace, text)
    return Loose(result, shown=repr(text)) if expanded else result


def expand(data: Any, environ: Mapping[str, str], path: str, problems: list[str]) -> Any:
    """Return data with each ``${VAR}`` and ``${VAR:-default}`` of its strings replaced; ``$${`` is a plain ``${``.

    What cannot be replaced is appended to `problems`.
    """
    if isinstance(data, str):
        return _expand_text(data, environ, path, problems)
    if isinstance(data, Mapping):
        return {key: expand(value, environ, join(path, str(key)), problems) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [expand(value, environ, f"{path}[{index}]", problems) for index, value in enumerate(data)]
    return data


def escape(data: Any) -> Any:
    """Return data that `expand` turns back into `data`, whatever its strings hold."""
    if isinstance(data, str):
        return data.replace("${", "$${")
    if isinstance(data, Mapping):
        return {key: escape(value) for key, value in data.items()}
    return [escape(value) for value in data] if isinstance(data, list | tuple) else data


def loosen(data: Any) -> Any:
    """Return data whose strings may all stand for other types, as what comes back from a store has to."""
    if isinstance(data, str):
        return data if isinstance(data, Loose) else Loose(data)
    if isinstance(data, Mapping):
        return {key: loosen(value) for key, value in data.items()}
    return [loosen(value) for value in data] if isinstance(data, list | tuple) else data


def variables(data: Any) -> set[str]:
    """Return the names of the variables that data refers to."""
    if isinstance(data, str):
        return {match["name"] for match in _REFERENCE.finditer(data) if match["name"]}
    if isinstance(data, Mapping):
        return set().union(*(variables(value) for value in data.values()))
    if isinstance(data, list | tuple):
        return set().union(*(variables(value) for value in data))
    return set()
