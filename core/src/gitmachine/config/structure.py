"""From plain data to attrs classes: every problem at once, each a sentence with its path.

cattrs dispatches on types; the hooks here are stricter than its own (which turn 1 into "1" and "abc" into a list of
letters) and speak the language of a configuration file. Text of the type `Loose` (from the command line, the
environment or an expansion) may stand for other types; text from a file may not.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import types
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from gitmachine.config.problems import (
    MAPPINGS,
    SEQUENCES,
    Expected,
    Inside,
    Misplaced,
    conceal,
    describe,
    sentences,
    suggest,
)
from gitmachine.config.text import Loose, loosen
from gitmachine.errors import ConfigError

__all__ = ["configurable", "field_types", "is_secret", "structure", "structure_fields"]

T = TypeVar("T")

_WRONG = (Expected, Inside, Misplaced, ConfigError, ValueError, TypeError)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def is_secret(field: attrs.Attribute[Any]) -> bool:
    """Whether the field says ``metadata={"secret": True}``: its value is never shown."""
    return bool(field.metadata.get("secret"))


def configurable(cls: type) -> list[attrs.Attribute[Any]]:
    """Return the fields of an attrs class that a configuration can set."""
    return [field for field in attrs.fields(cls) if field.init and not field.metadata.get("internal")]


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved type of each field of an attrs class."""
    hints = get_type_hints(cls)
    return {field.name: hints.get(field.name, Any) for field in attrs.fields(cls)}


def _plain(value: Any) -> Any:
    """Return data in which no text is loose any more."""
    if isinstance(value, Loose):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _int(value: Any, cls: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Loose):
        with contextlib.suppress(ValueError):
            return int(value)
    raise Expected(describe(cls), value)


def _float(value: Any, cls: Any) -> float:
    if isinstance(value, int | float | Loose) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
            if math.isfinite(number):
                return number
    raise Expected(describe(cls), value)


def _bool(value: Any, cls: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, Loose) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    raise Expected(describe(cls), value)


def _str(value: Any, cls: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise Expected(describe(cls), value)


def _path(value: Any, cls: Any) -> Path:
    if isinstance(value, str) and value and "\0" not in value:
        return Path(str.__str__(value)).expanduser()
    if isinstance(value, Path):
        return value
    raise Expected(describe(cls), value)


def _enum(value: Any, cls: Any) -> Any:
    for member in cls:
        if value is member or (type(value) is not bool and value == member.value):
            return member
    raise Expected(describe(cls), value)


def _literal(value: Any, cls: Any) -> Any:
    for choice in get_args(cls):
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
        if isinstance(value, Loose) and not isinstance(choice, str) and str(choice).lower() == value.lower():
            return choice
    raise Expected(describe(cls), value)


def _json(value: Loose, opening: str, expected: str) -> Any:
    """Return the JSON that text holds if it looks like that, else None."""
    if not value.lstrip().startswith(opening):
        return None
    try:
        data = json.loads(value)
    except ValueError:
        raise Expected(f"{expected} in JSON", value) from None
    return loosen(data)


def _each(items: Sequence[tuple[str, Any, Any]]) -> list[Any]:
    """Structure items of (path below, value, type); all their problems at once."""
    values, problems = [], []
    for below, value, cls in items:
        try:
            values.append(_CONVERTER.structure(value, cls))
        except _WRONG as error:
            problems.append((below, error))
    if problems:
        raise Inside(problems)
    return values


def _sequence(value: Any, cls: Any) -> Any:
    origin, args = get_origin(cls) or cls, get_args(cls)
    if isinstance(value, Loose):
        data = _json(value, "[", "a list")
        value = [Loose(part.strip()) for part in value.split(",") if part.strip()] if data is None else data
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence | AbstractSet):
        raise Expected(describe(cls), value)
    kind = args[0] if args else Any
    if origin is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise Expected(f"a list of {len(args)}", value)
        items = [(f"[{i}]", item, arg) for i, (item, arg) in enumerate(zip(value, args, strict=True))]
    else:
        items = [(f"[{i}]", item, kind) for i, item in enumerate(value)]
    values = _each(items)
    if origin in (set, frozenset, AbstractSet):
        return frozenset(values) if origin is not set else set(values)
    return values if origin in (list, MutableSequence) else tuple(values)


def _mapping(value: Any, cls: Any) -> Any:
    if isinstance(value, Loose):
        data = _json(value, "{", "a table")
        if data is None:
            pairs = [part.partition("=") for part in value.split(",") if part.strip()]
            if not all(equals and key.strip() for key, equals, _ in pairs):
                raise Expected("a table as key=value,key=value or JSON", value)
            data = {key.strip(): Loose(item.strip()) for key, _, item in pairs}
        value = data
    if not isinstance(value, Mapping):
        raise Expected(describe(cls), value)
    args = get_args(cls)
    kind = args[1] if args else Any
    keys = [str(key) for key in value]
    return dict(zip(keys, _each([(key, value[key], kind) for key in keys]), strict=True))


def _union(value: Any, cls: Any) -> Any:
    members = [arg for arg in get_args(cls) if arg is not type(None)]
    optional = len(members) < len(get_args(cls))
    if value is None and optional:
        return None
    if optional and isinstance(value, Loose) and value.lower() in ("", "none", "null") and str not in members:
        return None
    if callable(value) and any((get_origin(member) or member) is Callable for member in members):
        return value
    members = [member for member in members if (get_origin(member) or member) is not Callable]
    # Text is the last resort: "8" is a number where a number may stand.
    for member in sorted(members, key=lambda member: member is str):
        with contextlib.suppress(Expected, *([] if len(members) == 1 else [Inside])):
            return _CONVERTER.structure(value, member)
    raise Expected(describe(cls), value)


def _any(value: Any, _cls: Any) -> Any:
    return _plain(value)


def structure_fields(cls: type, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Exception]]]:
    """Return the values of the fields that data gives, and what is wrong with it, field by field."""
    fields = {_key(field): field for field in configurable(cls)}
    problems: list[tuple[str, Exception]] = [
        (str(key), Misplaced("unknown key", suggest(str(key), list(fields)))) for key in data if key not in fields
    ]
    values: dict[str, Any] = {}
    for key, field in fields.items():
        kind = field_types(cls)[field.name]
        if key not in data:
            if field.default is attrs.NOTHING:
                problems.append((key, Misplaced(f"expected {describe(kind)}, found nothing", "this key is required")))
            continue
        try:
            values[key] = _CONVERTER.structure(data[key], kind)
            _validate(cls, field, values[key])
        except _WRONG as error:
            problems.append((key, conceal(error) if is_secret(field) else error))
        except Exception as error:  # noqa: BLE001  # a validator or converter of a third party may fail in any way
            problems.append((key, _failed(f"the check of {key!r}", error, secret=is_secret(field))))
    return values, problems


def _failed(what: str, error: Exception, *, secret: bool) -> ConfigError:
    """Return the problem for foreign code that failed at its task, without what it says when that may be a secret."""
    return ConfigError(f"{what} failed: {type(error).__name__}" + ("" if secret else f": {error}"))


def _key(field: attrs.Attribute[Any]) -> str:
    return field.alias or field.name


def _validate(cls: type, field: attrs.Attribute[Any], value: Any) -> None:
    """Judge a field by itself, so that one wrong value does not hide the next."""
    if field.validator is None or isinstance(field.converter, attrs.Converter):
        return
    # A validator that looks at other fields has its say when the object is made.
    with contextlib.suppress(AttributeError):
        field.validator(object.__new__(cls), field, field.converter(value) if field.converter else value)


def _class(value: Any, cls: Any) -> Any:
    if isinstance(value, cls):
        return value
    if isinstance(value, Loose):
        value = _json(value, "{", "a table") or value
    if not isinstance(value, Mapping):
        raise Expected(describe(cls), value)
    values, problems = structure_fields(cls, value)
    if problems:
        raise Inside(problems)
    return cls(**values)


def _instance(cls: Any) -> Callable[[Any, Any], Any]:
    """For types that files cannot hold: pass objects from Python through."""

    def hook(value: Any, _cls: Any) -> Any:
        if isinstance(cls, type) and isinstance(value, cls):
            return value
        raise Expected(describe(cls), value)

    return hook


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False, structure_fallback_factory=_instance)
    hooks: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
        (lambda cls: isinstance(cls, type) and issubclass(cls, Enum), _enum),
        (attrs.has, _class),
        (lambda cls: (get_origin(cls) or cls) in MAPPINGS, _mapping),
        (lambda cls: (get_origin(cls) or cls) in SEQUENCES, _sequence),
        (lambda cls: get_origin(cls) is Literal, _literal),
        (lambda cls: get_origin(cls) in (Union, types.UnionType), _union),
        (lambda cls: cls is Any or cls is object, _any),
    ]
    for predicate, hook in hooks:
        converter.register_structure_hook_func(predicate, hook)
    simple: dict[type, Callable[[Any, Any], Any]] = {int: _int, float: _float, bool: _bool, str: _str, Path: _path}
    for cls, hook in simple.items():
        converter.register_structure_hook(cls, hook)
    return converter


_CONVERTER = _converter()


def structure(cls: type[T], data: Mapping[str, Any], path: str = "") -> T:
    """Return an object of an attrs class made from plain data, such as a table of a configuration file.

    Text of the type `Loose` may stand for other types: ``true``, ``8``, ``a,b`` or JSON.

    Raises:
        ConfigError: with every problem, such as ``expected int, not 'ten' @ providers.e2b.timeout``.
    """
    try:
        return _class(data, cls)  # type: ignore[no-any-return]
    except _WRONG as error:
        raise ConfigError(*sentences(error, path)) from None
    except Exception as error:  # what a third party's class does when it is made
        secret = any(map(is_secret, configurable(cls)))
        wrong = _failed(f"the check of {cls.__module__}.{cls.__qualname__}", error, secret=secret)
        raise ConfigError(*sentences(wrong, path)) from error
