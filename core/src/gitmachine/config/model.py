"""The model of ``gitmachine.toml``: what can be configured, with its defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping  # noqa: TC003  # attrs and cattrs resolve annotations at run time
from pathlib import Path  # noqa: TC003  # attrs and cattrs resolve annotations at run time
from typing import Any

import attrs

from gitmachine.errors import ConfigError
from gitmachine.git.model import GitIdentity, GitOptions, GuardOptions

__all__ = ["PluginSettings", "ResolvedMachine", "Settings"]

_INTERNAL = {"internal": True}
"""Marks a field that no configuration can set."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _limit(_owner: object, _field: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ConfigError(f"expected 0 seconds or more, not {value:g}")


@attrs.frozen(kw_only=True)
class PluginSettings:
    """Which plugins are loaded, and how long they may take.

    Attributes:
        enable: only these plugins are loaded; left out, all that are installed.
        disable: plugins that are not loaded.
        strict: whether any broken plugin is an error.
        hook_timeout: seconds that a plugin may take in a hook; 0 is no limit.
        options: what plugins are to know, by their names; each says itself what that may be.
    """

    enable: tuple[str, ...] | None = None
    disable: tuple[str, ...] = ()
    strict: bool = False
    hook_timeout: float = attrs.field(default=3600.0, validator=_limit)
    options: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)


def _session(_owner: object, _field: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None:
        from gitmachine.git.names import check_session

        check_session(value)


def _repository(_owner: object, _field: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None:
        from gitmachine.git.names import check_repository

        check_repository(value)


def _without_password(value: str | None) -> str:
    if value is None:
        return "None"
    from gitmachine.git.names import check_repository

    return repr(check_repository(value).display)


def _timeout(_owner: object, _field: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigError(f"expected more than 0 seconds, not {value:g}")


def _text(_owner: object, field: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and (not value.strip() or "\0" in value):
        raise ConfigError(f"expected a {field.name}, not {value!r}")


def _token(_owner: object, _field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, str) and (not value or re.search(r"[\x00-\x1f\x7f]", value)):
        raise ConfigError("expected a token of one line, not empty (the value is secret)")


def _env(_owner: object, _field: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    problems = [
        f"invalid name of an environment variable {name!r} @ env" for name in value if not _ENV_NAME.fullmatch(name)
    ]
    problems += [
        f"a NUL character cannot be in an environment variable @ env.{n}" for n, v in value.items() if "\0" in v
    ]
    if problems:
        raise ConfigError(*problems)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that a configuration says, after precedence: argument over environment over file.

    The tables of `providers` and `machines` are as they stand in the file, with their ``${VAR}`` unresolved; see
    `gitmachine.config.machines.resolve_machine`.

    Attributes:
        provider: the provider's name; None is ``local``.
        repository: the repository's URL or path.
        token: the credential for the repository, or a callable that supplies it at each use.
        session: the session branch; None makes a fresh one.
        auto_commit: whether pause and stop commit what changed.
        timeout: seconds that each command may take; None is no limit.
        env: variables for every command.
        identity: who the commits are by.
        path: where the repository is in the machine; None is a place below the machine's own directory.
        git: how the repository travels and how git behaves.
        guard: what is kept out of automatic commits and stopped at a push.
        providers: options of each provider, by its name.
        machines: named machines: a provider and its options.
        plugins: which plugins are loaded, and how long they may take.
        source: the file that was read, or None.
        origins: where each given value came from: ``file``, ``environment`` or ``argument``.
        hints: remarks about the environment that are no errors, such as a variable that looks misspelt.
    """

    provider: str | None = attrs.field(default=None, validator=_text)
    repository: str | None = attrs.field(default=None, validator=_repository, repr=_without_password)
    token: str | Callable[..., Any] | None = attrs.field(
        default=None, repr=False, validator=_token, metadata={"secret": True}
    )
    session: str | None = attrs.field(default=None, validator=_session)
    auto_commit: bool = True
    timeout: float | None = attrs.field(default=None, validator=_timeout)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False, validator=_env, metadata={"secret": True})
    identity: GitIdentity = attrs.field(factory=GitIdentity)
    path: str | None = attrs.field(default=None, validator=_text)
    git: GitOptions = attrs.field(factory=GitOptions)
    guard: GuardOptions = attrs.field(factory=GuardOptions)
    providers: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    machines: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    plugins: PluginSettings = attrs.field(factory=PluginSettings)

    source: Path | None = attrs.field(default=None, metadata=_INTERNAL)
    origins: Mapping[str, str] = attrs.field(factory=dict, repr=False, metadata=_INTERNAL)
    hints: tuple[str, ...] = attrs.field(default=(), repr=False, metadata=_INTERNAL)


@attrs.frozen(kw_only=True)
class ResolvedMachine:
    """A provider chosen by name, and its options.

    Attributes:
        provider: the provider's name as it was given.
        options: plain data for the provider's config class, every ``${VAR}`` replaced.
        unresolved_options: the same with ``${VAR}`` as written, fit to be stored.
        name: the name of the machine's table in the configuration, or None.
    """

    provider: str
    options: Mapping[str, Any] = attrs.field(repr=False)
    unresolved_options: Mapping[str, Any] = attrs.field(repr=False)
    name: str | None = None
