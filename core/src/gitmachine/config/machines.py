"""The tables of providers and machines: choose one, replace its ``${VAR}``, check them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from gitmachine.config.model import ResolvedMachine, Settings
from gitmachine.config.problems import Inside, Misplaced, sentences, suggest
from gitmachine.config.structure import configurable, is_secret, structure_fields
from gitmachine.config.text import Loose, escape, expand, join, loosen, variables
from gitmachine.errors import ConfigError
from gitmachine.provider import normalize_name

__all__ = [
    "DEFAULT_PROVIDER",
    "ClassOf",
    "check_tables",
    "parse_options",
    "resolve_machine",
    "restore_options",
    "storable_options",
    "written_out",
]

DEFAULT_PROVIDER = "local"
"""The provider when nothing names one."""

ClassOf = Callable[[str], "type | None"]
"""Returns the config class of a provider, or None when it cannot be had."""


def parse_options(options: Iterable[str]) -> dict[str, Any]:
    """Return ``key=value`` strings as data; ``a.b=c`` sets a key of a table.

    Raises:
        ConfigError: for each that is not of this form.
    """
    data: dict[str, Any] = {}
    problems = []
    for option in options:
        key, equals, value = option.partition("=")
        *tables, last = key.split(".")
        if not equals or not all((*tables, last)):
            problems.append(f"expected key=value, not {option!r} @ --option")
            continue
        place = data
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                problems.append(f"{table!r} is given both a value and keys below it @ --option {option}")
                place = {}
        if isinstance(place.get(last), dict):
            problems.append(f"{last!r} is given both a value and keys below it @ --option {option}")
        place[last] = Loose(value)
    if problems:
        raise ConfigError(*problems)
    return data


def _provider_table(settings: Settings, names: Iterable[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the options under any of a provider's names, and the key they stand under."""
    wanted = {normalize_name(name) for name in names}
    found = [key for key in settings.providers if normalize_name(key) in wanted]
    if len(found) > 1:
        raise ConfigError(f"one provider has two tables: {' and '.join(f'providers.{key}' for key in found)}")
    return (found[0], settings.providers[found[0]]) if found else ("", {})


def _machine_table(settings: Settings, machine: str) -> dict[str, Any]:
    if machine in settings.machines:
        return dict(settings.machines[machine])
    if not settings.machines:
        raise ConfigError(f"no machine {machine!r}: the configuration has none; add a table [machines.NAME] to it")
    raise ConfigError(f"no machine {machine!r} in the configuration: {suggest(machine, list(settings.machines))}")


def _chosen(settings: Settings, provider: str | None, machine: str | None, environ: Mapping[str, str]) -> str:
    """Return the provider's name: the one asked for, the machine's own, the settings', or the default."""
    own = _machine_table(settings, machine).get("provider") if machine is not None else None
    if own is None:
        return provider or settings.provider or DEFAULT_PROVIDER
    path = join(join("machines", str(machine)), "provider")
    problems: list[str] = []
    name = expand(own, environ, path, problems)
    if problems:
        raise ConfigError(*problems)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"expected a provider's name, not {name!r} @ {path}")
    if provider is not None and normalize_name(provider) != normalize_name(name):
        raise ConfigError(
            f"the machine {machine!r} has the provider {str(name)!r}, not {provider!r}: name one of the two"
        )
    return str(name)


@attrs.frozen
class _Option:
    """An option's value as written, and with its variables replaced, or why that is impossible."""

    written: Any
    value: Any
    problems: tuple[str, ...]

    def over(self, below: _Option | None) -> _Option:
        """Return what holds when this one stands in a stronger layer; tables are merged."""
        if below is None or not isinstance(self.written, Mapping) or not isinstance(below.written, Mapping):
            return self
        return _Option(
            {**below.written, **self.written}, {**below.value, **self.value}, (*below.problems, *self.problems)
        )


def _layered(layers: Iterable[tuple[str, Mapping[str, Any]]], environ: Mapping[str, str]) -> dict[str, _Option]:
    """Return each option as the strongest (last) layer has it; what is replaced need not be resolvable."""
    result: dict[str, _Option] = {}
    for path, layer in layers:
        for key, written in layer.items():
            problems: list[str] = []
            value = expand(written, environ, join(path, key), problems)
            result[key] = _Option(written, value, tuple(problems)).over(result.get(key))
    return result


def resolve_machine(
    settings: Settings,
    *,
    provider: str | None = None,
    machine: str | None = None,
    options: Sequence[str] | Mapping[str, Any] = (),
    aliases: Callable[[str], Iterable[str]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedMachine:
    """Return the chosen provider with its options: its own table, then the machine's, then `options`, the strongest.

    Args:
        settings: from `load_config`.
        provider: the provider's name; None takes the machine's, then the settings', then ``local``.
        machine: the name of a table under ``machines``.
        options: ``key=value`` strings, in which ``${VAR}`` works too, or data, which is taken as it is.
        aliases: returns the other names of a provider, under which its table may stand.
        environ: the environment, `os.environ` by default.

    Raises:
        ConfigError: an unknown machine, a missing variable, an option that is not ``key=value``.
    """
    environ = os.environ if environ is None else environ
    name = _chosen(settings, provider, machine, environ)
    key, table = _provider_table(settings, (name, *(aliases(name) if aliases else ())))
    own = _machine_table(settings, machine) if machine is not None else {}
    own.pop("provider", None)
    given = escape(options) if isinstance(options, Mapping) else parse_options(options)
    layers = ((join("providers", key), table), (join("machines", machine or ""), own), ("--option", given))
    found = _layered(layers, environ)
    problems = [problem for option in found.values() for problem in option.problems]
    if problems:
        raise ConfigError(*problems, source=str(settings.source) if settings.source else None)
    return ResolvedMachine(
        provider=name,
        options={key: option.value for key, option in found.items()},
        unresolved_options={key: option.written for key, option in found.items()},
        name=machine,
    )


def storable_options(cls: type, unresolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return options fit to be stored as JSON: secrets that are written out, not as ``${VAR}``, are left out.

    Raises:
        ConfigError: one is written out whose field says ``metadata={"written": False}``.
    """
    problems = written_out(cls, unresolved)
    if problems:
        raise ConfigError(*problems)
    secret = {field.alias or field.name for field in configurable(cls) if is_secret(field)}
    return {key: _jsonable(value) for key, value in unresolved.items() if key not in secret or variables(value)}


def written_out(cls: type, unresolved: Mapping[str, Any]) -> list[str]:
    """Return a problem for each option that has to come from a variable and stands there as text."""
    names = [field.alias or field.name for field in configurable(cls) if not field.metadata.get("written", True)]
    return [
        f"it must not be written out: write ${{VARIABLE}}, and have its value in the environment @ {name}"
        for name in names
        if isinstance(unresolved.get(name), str) and not variables(unresolved[name])
    ]


def _jsonable(value: Any) -> Any:
    """Return data with what JSON has no form for (dates of TOML, paths from Python) as text."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def restore_options(stored: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the options for a provider from a stored copy of `ResolvedMachine.unresolved_options`.

    Raises:
        ConfigError: a variable is not set in this process; names it.
    """
    problems: list[str] = []
    options = loosen(expand(stored, os.environ if environ is None else environ, "options", problems))
    if problems:
        raise ConfigError(*problems)
    return dict(options)


def check_tables(settings: Settings, class_of: ClassOf, environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the tables of providers and machines, as far as their config classes can be had."""
    problems: list[str] = []
    for name, table in settings.providers.items():
        problems += _check_table(table, name, join("providers", name), class_of, environ)
    for name, table in settings.machines.items():
        path = join("machines", name)
        provider = table.get("provider", settings.provider or DEFAULT_PROVIDER)
        if not isinstance(provider, str):
            problems.append(f"expected a provider's name, not {provider!r} @ {path}.provider")
            continue
        own = {key: value for key, value in table.items() if key != "provider"}
        problems += _check_table(own, provider, path, class_of, environ, partial=True)
    return list(dict.fromkeys(problems))


def _check_table(
    table: Mapping[str, Any],
    provider: str,
    path: str,
    class_of: ClassOf,
    environ: Mapping[str, str],
    *,
    partial: bool = False,
) -> list[str]:
    problems: list[str] = []
    data: dict[str, Any] = {}
    unresolved: set[str] = set()
    for key, value in table.items():
        missing: list[str] = []
        data[key] = expand(value, environ, join(path, key), missing)
        problems += missing
        unresolved |= {key} if missing else set()
    cls = class_of(provider)
    if cls is None:
        return problems
    problems += [problem.replace("@ ", f"@ {path}.") for problem in written_out(cls, table)]
    _values, wrong = structure_fields(cls, data)
    for key, error in wrong:
        # A required key that is absent may come from another layer; a value without its variable has no type yet.
        absent = key not in data and (partial or bool(unresolved))
        untyped = key in unresolved and not isinstance(error, Misplaced)
        if not absent and not untyped:
            problems += sentences(Inside([(key, error)]), path)
    return problems
