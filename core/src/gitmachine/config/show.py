"""Settings as plain data to look at, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from gitmachine.config.installed import installed_classes
from gitmachine.config.machines import DEFAULT_PROVIDER, ClassOf
from gitmachine.config.model import Settings
from gitmachine.config.structure import configurable, is_secret
from gitmachine.config.text import variables

__all__ = ["HIDDEN", "shown"]

HIDDEN = "***"
"""What stands in place of a secret."""

_SECRET_NAME = re.compile(r"token|secret|passw|credential|api_?key|private_?key", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")


def shown(settings: Settings, class_of: ClassOf | None = None) -> dict[str, Any]:
    """Return every setting as data; secrets are replaced, ``${VAR}`` of provider options stays as written."""
    class_of = class_of or installed_classes(settings)
    data: dict[str, Any] = {}
    for field in configurable(Settings):
        value = getattr(settings, field.name)
        if attrs.has(type(value)):
            value = attrs.asdict(value)
        data[field.name] = value
    if settings.token is not None:
        data["token"] = HIDDEN
    if settings.repository is not None:
        from gitmachine.git.names import check_repository

        data["repository"] = check_repository(settings.repository).display
    data["env"] = dict.fromkeys(settings.env, HIDDEN)
    data["provider"] = settings.provider or DEFAULT_PROVIDER
    data["providers"] = {name: _table(table, class_of(name)) for name, table in settings.providers.items()}
    data["machines"] = {
        name: _table(table, class_of(str(table.get("provider", data["provider"]))))
        for name, table in settings.machines.items()
    }
    return data


def _table(table: Mapping[str, Any], cls: type | None) -> dict[str, Any]:
    secret: Callable[[str], bool]
    if cls is None:
        secret = _looks_secret
    else:
        declared = {field.alias or field.name for field in configurable(cls) if is_secret(field)}
        secret = declared.__contains__
    return {key: _hidden(value) if secret(key) else _plain(value) for key, value in table.items()}


def _looks_secret(key: str) -> bool:
    return _SECRET_NAME.search(key) is not None


def _hidden(value: Any) -> Any:
    return value if variables(value) else HIDDEN


def _plain(value: Any) -> Any:
    """Hide what looks secret deeper down: no class says so there."""
    if isinstance(value, str):
        return _PASSWORD.sub(f"{HIDDEN}@", value)
    if isinstance(value, Mapping):
        return {key: _hidden(item) if _looks_secret(str(key)) else _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
