"""How problems of a configuration are worded: what was expected, what was there, at which path."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from gitmachine.config.text import Loose, join
from gitmachine.errors import ConfigError

__all__ = ["MAPPINGS", "SEQUENCES", "Expected", "Inside", "Misplaced", "conceal", "describe", "sentences", "suggest"]

SEQUENCES = (list, tuple, set, frozenset, Sequence, MutableSequence, AbstractSet)
MAPPINGS = (dict, Mapping, MutableMapping)

_NAMES = {int: "int", float: "a number", bool: "true or false", str: "a string", Path: "a path", bytes: "bytes"}
_LONGEST_SHOWN = 80


class Expected(Exception):  # noqa: N818  # inner to this package: always turned into a ConfigError
    """A value of another type was expected; the catcher knows the path."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value


class Misplaced(Exception):  # noqa: N818  # inner to this package: always turned into a ConfigError
    """A key is there that should not be, or is not there but should; `hint` says what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class Inside(Exception):  # noqa: N818  # inner to this package: always turned into a ConfigError
    """Problems inside a value, each with the key or ``[index]`` below it."""

    def __init__(self, problems: Sequence[tuple[str, Exception]]) -> None:
        super().__init__(problems)
        self.problems = problems


def describe(cls: Any) -> str:
    """Return what a value of this type is called in messages."""
    if cls in _NAMES:
        return _NAMES[cls]
    origin, args = get_origin(cls), get_args(cls)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(
            dict.fromkeys(describe(arg) for arg in args if arg is not type(None) and get_origin(arg) is not Callable)
        )
    if (origin or cls) in SEQUENCES:
        return "a list"
    if (origin or cls) in MAPPINGS or attrs.has(cls):
        return "a table"
    if isinstance(cls, type) and issubclass(cls, Enum):
        return "one of " + ", ".join(str(member.value) for member in cls)
    return str(getattr(cls, "__name__", cls))


def suggest(name: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the closest known one, else all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known here: " + ", ".join(sorted(known)) if known else "nothing can be set here"


def sentences(error: Exception, path: str = "") -> list[str]:
    """Return a problem, or those inside it, as sentences with their paths."""
    if isinstance(error, Inside):
        return [
            line
            for below, inner in error.problems
            for line in sentences(inner, path + below if below.startswith("[") else join(path, below))
        ]
    where = f" @ {path}" if path else ""
    if isinstance(error, Expected):
        return [f"expected {error.expected}, not {_shown(error.value)}{where}"]
    if isinstance(error, Misplaced):
        return [f"{error.what}{where}: {error.hint}"]
    if isinstance(error, ConfigError):
        return [_placed(problem, path) if " @ " in problem else problem + where for problem in error.problems]
    return [f"{error}{where}"]


def _placed(problem: str, path: str) -> str:
    """Return a problem, whose path begins at the class that found it, with the whole path."""
    what, _at, where = problem.rpartition(" @ ")
    tables, _dot, key = path.rpartition(".")
    if where == key or where.startswith(tuple(f"{key}{end}" for end in ".[:(, ") if key else ()):
        return f"{what} @ {tables}.{where}" if tables else problem
    of_provider = path.startswith(("providers.", "machines.")) and not where.startswith(path)
    return f"{what} @ {path}.{where}" if of_provider else problem


def conceal(error: Exception) -> Exception:
    """Return a problem with a secret value that does not show it."""
    if isinstance(error, Inside):
        return Inside([(below, conceal(inner)) for below, inner in error.problems])
    if isinstance(error, Expected):
        return ConfigError(f"expected {error.expected} (the value is secret)")
    return error


def _shown(value: object) -> str:
    if isinstance(value, Loose):
        text = value.shown or repr(str.__str__(value))
    elif isinstance(value, Mapping):
        text = "a table"
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
