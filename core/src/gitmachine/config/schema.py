"""JSON Schema of the configuration file, from the same attrs classes that it is structured into."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from gitmachine.config.model import Settings
from gitmachine.config.problems import MAPPINGS, SEQUENCES
from gitmachine.config.structure import configurable, field_types, is_secret

__all__ = ["class_schema", "settings_schema"]

_SIMPLE = {int: "integer", float: "number", bool: "boolean", str: "string", Path: "string", type(None): "null"}
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""A value of any type may be written as text with a variable in it."""
_HEADING = re.compile(r"^(\w+): ")


def _descriptions(cls: type) -> dict[str, str]:
    """Return what the ``Attributes:`` section of a class's docstring says of each field."""
    found: dict[str, str] = {}
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        heading = _HEADING.match(line.strip()) if line.startswith("    ") and not line.startswith("     ") else None
        if heading:
            name = heading[1]
            found[name] = line.strip()[heading.end() :]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _type_schema(cls: Any) -> dict[str, Any]:
    origin, args = get_origin(cls), get_args(cls)
    if cls in _SIMPLE:
        return {"type": _SIMPLE[cls]}
    if origin is Literal:
        return {"enum": list(args)}
    if isinstance(cls, type) and issubclass(cls, Enum):
        return {"enum": [member.value for member in cls]}
    if origin in (Union, types.UnionType):
        # A key that may be absent is left out; TOML has no null. Functions come from Python only.
        members = [_type_schema(arg) for arg in args if arg is not type(None) and get_origin(arg) is not Callable]
        return members[0] if len(members) == 1 else {"anyOf": members}
    if (origin or cls) in SEQUENCES:
        items = [arg for arg in args if arg is not Ellipsis]
        return {"type": "array", "items": _value_schema(items[0])} if items else {"type": "array"}
    if (origin or cls) in MAPPINGS:
        return {"type": "object", "additionalProperties": _value_schema(args[1]) if len(args) > 1 else True}
    return class_schema(cls) if isinstance(cls, type) and attrs.has(cls) else {}


def _value_schema(cls: Any) -> dict[str, Any]:
    schema = _type_schema(cls)
    if schema.get("type") in (None, "string", "object", "array") and "enum" not in schema and "anyOf" not in schema:
        return schema
    alternatives = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {"anyOf": [*alternatives, _VARIABLE]}


def _default(field: attrs.Attribute[Any]) -> dict[str, Any]:
    value = field.default
    if isinstance(value, bool | int | float | str) and not isinstance(value, Enum):
        return {"default": value}
    return {"default": list(value)} if isinstance(value, tuple) and value else {}


def class_schema(cls: type) -> dict[str, Any]:
    """Return the schema of a table that is structured into an attrs class."""
    texts = _descriptions(cls)
    properties: dict[str, Any] = {}
    required = []
    for field in configurable(cls):
        key = field.alias or field.name
        schema = _value_schema(field_types(cls)[field.name])
        if field.name in texts:
            schema = {"description": texts[field.name], **schema}
        properties[key] = schema | ({} if is_secret(field) else _default(field))
        if field.default is attrs.NOTHING:
            required.append(key)
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def settings_schema(providers: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Return the schema of ``gitmachine.toml``.

    Args:
        providers: config classes by the provider's name; tables of other providers may hold anything.
    """
    schema = class_schema(Settings)
    tables = {
        name: class_schema(cls) | {"title": f"Options of the provider {name}"}
        for name, cls in (providers or {}).items()
    }
    for table in tables.values():
        table.pop("required", None)  # another layer, such as an argument, may give what the table lacks
    properties = schema["properties"]
    text = {"description": "the provider's name; without it the default one"}
    properties["providers"] |= {"properties": tables, "additionalProperties": {"type": "object"}}
    properties["machines"] |= {
        "additionalProperties": {"type": "object", "properties": {"provider": {"type": "string", **text}}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gitmachine.toml",
        "description": "Configuration of GitMachine; in pyproject.toml the table tool.gitmachine.",
        **schema,
    }
