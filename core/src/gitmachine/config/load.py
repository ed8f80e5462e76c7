"""Load the settings: one file, the environment and arguments, each stronger than the one before."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gitmachine.config import environment
from gitmachine.config.machines import check_tables
from gitmachine.config.model import Settings
from gitmachine.config.problems import Inside, sentences
from gitmachine.config.sources import Source, find
from gitmachine.config.structure import structure, structure_fields
from gitmachine.config.text import expand
from gitmachine.errors import ConfigError

__all__ = ["load_config", "working_directory"]

_TABLES = ("providers", "machines")
"""Resolved only when one of them is chosen: a variable missing for another provider stops nobody."""


_ELSEWHERE = re.compile(r"[/~-]|[^/]*:")
"""How URLs, scp-like places (``host:path``) and absolute paths begin; and options, which are refused later."""


def working_directory() -> Path | None:
    """Return the working directory, or None when it is gone."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _structured(data: Mapping[str, Any], problems: list[str]) -> None:
    _values, wrong = structure_fields(Settings, data)
    if wrong:
        problems += sentences(Inside(wrong))


def _from_file(source: Source, environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    missing: set[str] = set()
    for key, value in source.data.items():
        wrong: list[str] = []
        data[key] = value if key in _TABLES else expand(value, environ, key, wrong)
        if wrong:
            missing.add(key)
            problems += wrong
    # What could not be expanded is reported as that, not as an empty value of the wrong type, too.
    _structured({key: value for key, value in data.items() if key not in missing}, problems)
    return _beside(data, source.path.parent)


def _beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read a relative path of a repository as relative to the file it stands in."""
    repository = data.get("repository")
    if isinstance(repository, str) and repository and not _ELSEWHERE.match(repository):
        data["repository"] = str(folder.absolute() / repository)
    return data


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for variable, (keys, value) in environment.given(environ).items():
        nested: dict[str, Any] = {keys[-1]: value}
        for key in reversed(keys[:-1]):
            nested = {key: nested}
        wrong: list[str] = []
        _structured(nested, wrong)
        problems += [line.replace(f"@ {'.'.join(keys)}", f"@ {variable}") for line in wrong]
        data = _merged(data, nested)
    return data


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def load_config(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings from a file, the environment and `overrides`, the last being the strongest.

    Args:
        path: the file; None looks at ``GITMACHINE_CONFIG``, then for ``gitmachine.toml`` or ``[tool.gitmachine]`` of a
            ``pyproject.toml`` upwards from `cwd`, then in the user's configuration directory. No file is fine.
        environ: the environment, `os.environ` by default.
        cwd: where to start looking, the working directory by default.
        overrides: values by key; None in a value means not given.

    Raises:
        ConfigError: every problem found, each with its path.
    """
    environ = os.environ if environ is None else environ
    source = find(path, environ, Path(cwd).absolute() if cwd is not None else working_directory())
    arguments = {key: value for key, value in (overrides or {}).items() if value is not None}
    problems: list[str] = []
    from_file = _from_file(source, environ, problems) if source is not None else {}
    from_environment = _from_environment(environ, problems)
    _structured(arguments, problems)
    if problems:
        raise _failed([*problems, *_table_problems(from_file, environ)], source)
    try:
        settings = structure(Settings, _merged(_merged(from_file, from_environment), arguments))
    except ConfigError as error:
        raise _failed(list(error.problems), source) from None
    origins = dict.fromkeys(from_file, "file")
    origins |= dict.fromkeys(from_environment, "environment") | dict.fromkeys(arguments, "argument")
    return attrs.evolve(
        settings,
        source=source.path if source is not None else None,
        origins=origins,
        hints=environment.hints(environ),
    )


def _table_problems(data: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the options of providers, to be told in the same breath as the rest."""
    from gitmachine.config.installed import installed_classes  # imports the plugins

    tables, _wrong = structure_fields(Settings, {key: data[key] for key in (*_TABLES, "plugins") if key in data})
    partial = Settings(**tables)
    return check_tables(partial, installed_classes(partial, environ), environ)


def _failed(problems: list[str], source: Source | None) -> ConfigError:
    return ConfigError(*dict.fromkeys(problems), source=str(source.path) if source is not None else None)
