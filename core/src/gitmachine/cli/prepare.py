"""From what a command line says to a session that could start: what ``run`` and ``start`` share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from gitmachine.cli.options import load_settings
from gitmachine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gitmachine.config.model import ResolvedMachine, Settings
    from gitmachine.plugins.registry import Registry
    from gitmachine.session import AsyncGitMachine

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Prepared", "check_command", "environment", "prepare", "session_options"]

_OPTIONS = (
    click.option(
        "-p", "--provider", metavar="PROVIDER", help="Where the machine comes from; see `gitmachine providers`."
    ),
    click.option("-m", "--machine", metavar="MACHINE", help="A machine of the configuration: [machines.MACHINE]."),
    click.option("-r", "--repository", "--repo", metavar="REPO", help="The repository: a URL, host:path or a path."),
    click.option("-s", "--session", metavar="SESSION", help="The branch to work on; without it a fresh one."),
    click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable for commands; K alone passes ours on."),
    click.option("-o", "--option", multiple=True, metavar="KEY=VALUE", help="An option of the provider."),
    click.option("--timeout", metavar="SECONDS", help="How long each command may run."),
    click.option("--name", metavar="NAME", help="A name for the machine."),
)


def session_options(function: F) -> F:
    """Add the options that say which session is to start."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@attrs.frozen(kw_only=True)
class Prepared:
    """A session that could start.

    Attributes:
        settings: everything that was configured.
        provider: the provider's name.
        gm: the session, not started.
        hints: what is no error, and hardly what was meant.
    """

    settings: Settings
    provider: str
    gm: AsyncGitMachine
    hints: tuple[str, ...] = ()


def check_command(command: Sequence[str]) -> None:
    """Raise `ConfigError` for a command without a program; click has seen to it that there is a first word."""
    if command and not command[0]:
        raise ConfigError("COMMAND begins with '': its first string names the program")


def environment(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``K=V`` pairs as variables; ``K`` alone takes the value of this process.

    Raises:
        ConfigError: for each that is neither, or not set here.
    """
    result: dict[str, str] = {}
    problems = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name.isidentifier() or not name.isascii():
            problems.append(f"expected NAME=VALUE or NAME, not {pair!r} @ --env")
        elif equals:
            result[name] = value
        elif name in os.environ:
            result[name] = os.environ[name]
        else:
            problems.append(f"the variable {name} is not set @ --env: set it or write {name}=VALUE")
    if problems:
        raise ConfigError(*problems)
    return result


def prepare(
    given: Mapping[str, Any], on_event: Callable[[str, dict[str, Any]], None], *, leaves: bool = False
) -> Prepared:
    """Check everything that was given and make the session; nothing starts.

    Args:
        given: the values of `session_options`.
        on_event: told each event's name and data.
        leaves: whether the machine is to outlive this process.

    Raises:
        ConfigError: with every problem.
    """
    settings, env = _settings(given)
    if settings.repository is None:
        raise ConfigError(
            'no repository: pass --repository REPO, set GITMACHINE_REPOSITORY, or write repository = "…" in '
            f"{settings.source or 'gitmachine.toml'}"
        )
    from gitmachine.config.installed import plugin_host
    from gitmachine.config.machines import storable_options
    from gitmachine.config.remarks import remarks
    from gitmachine.plugins.registry import Registry
    from gitmachine.session import AsyncGitMachine

    host = plugin_host(settings)
    registry = Registry(host)
    chosen = _chosen(settings, registry, given)
    if leaves and registry.resolve(chosen.provider).connect is None:
        raise ConfigError(
            f"a machine of the provider {chosen.provider!r} ends with the process that made it, since the provider "
            "cannot connect to one: use `gitmachine run`, without --keep"
        )
    machine = registry.create(chosen.provider, chosen.options)
    stored = storable_options(registry.config_class(chosen.provider), chosen.unresolved_options)
    gm = AsyncGitMachine(
        machine,
        repository=settings.repository,
        token=settings.token,
        session=settings.session,
        options=stored,  # only put on record: the machine is made
        env={**settings.env, **env},
        identity=settings.identity,
        auto_commit=settings.auto_commit,
        timeout=settings.timeout,
        git=settings.git,
        guard=settings.guard,
        path=settings.path,
        name=given["name"],
        on_event=lambda name, data, _gm: on_event(name, data),
        plugins=host,
    )
    hints = (*settings.hints, *remarks(settings, host))
    return Prepared(settings=settings, provider=chosen.provider, gm=gm, hints=hints)


def _settings(given: Mapping[str, Any]) -> tuple[Settings, dict[str, str]]:
    from gitmachine.config.machines import parse_options
    from gitmachine.config.text import Loose

    overrides = {key: given[key] for key in ("provider", "repository", "session")}
    if given["machine"] is not None:
        overrides["provider"] = None  # the machine has its own, and a contradiction is told below
    if given["timeout"] is not None:
        overrides["timeout"] = Loose(given["timeout"])
    problems: list[str] = []
    source = None
    settings: Settings | None = None
    env: dict[str, str] = {}
    try:
        settings = load_settings(given["config"], overrides)
    except ConfigError as error:
        problems += error.problems
        source = error.source
    for check in (lambda: env.update(environment(given["env"])), lambda: parse_options(given["option"])):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if settings is None or problems:
        raise ConfigError(*problems, source=source)
    return settings, env


def _chosen(settings: Settings, registry: Registry, given: Mapping[str, Any]) -> ResolvedMachine:
    """Return the provider and its options, checked; with what else is wrong in the file when something is."""
    from gitmachine.config.installed import installed_classes
    from gitmachine.config.machines import check_tables, resolve_machine
    from gitmachine.config.structure import structure

    def aliases(name: str) -> tuple[str, ...]:
        spec = registry.resolve(name)
        return (spec.name, *spec.aliases)

    try:
        chosen = resolve_machine(
            settings, provider=given["provider"], machine=given["machine"], options=given["option"], aliases=aliases
        )
        structure(registry.config_class(chosen.provider), chosen.options, f"providers.{chosen.provider}")
    except ConfigError as error:
        others = check_tables(settings, installed_classes(settings), os.environ)
        source = str(settings.source) if settings.source and others else error.source
        raise ConfigError(*dict.fromkeys([*error.problems, *others]), source=source) from None
    return chosen
