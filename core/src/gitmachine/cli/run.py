"""``gitmachine run``: start a machine, run a command on the repository, publish the work, stop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import NOTHING_STARTED, Exit
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import Invocation, config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json
from gitmachine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine.cli.attempt import Plan
    from gitmachine.cli.report import Outcome, Progress
    from gitmachine.config.model import ResolvedMachine, Settings
    from gitmachine.plugins.registry import Registry
    from gitmachine.session import AsyncGitMachine

__all__ = ["environment", "run"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-p", "--provider", metavar="PROVIDER", help="Where the machine comes from; see `gitmachine providers`.")
@click.option("-m", "--machine", metavar="MACHINE", help="A machine of the configuration: [machines.MACHINE].")
@click.option("-r", "--repository", "--repo", metavar="REPO", help="The repository: a URL, host:path or a path.")
@click.option("-s", "--session", metavar="SESSION", help="The branch to work on; without it a fresh one.")
@click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable for the command; K alone passes ours on.")
@click.option("-o", "--option", multiple=True, metavar="KEY=VALUE", help="An option of the provider.")
@click.option("--keep", is_flag=True, help="Publish the work but leave the machine.")
@click.option("--timeout", metavar="SECONDS", help="How long the command may run.")
@click.option("--name", metavar="NAME", help="A name for the machine.")
@click.option("--stream", is_flag=True, help="With --json: the command's output goes to standard error as it comes.")
@json_option
@config_option
@debug_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(invocation: Invocation, /, *, as_json: bool, **given: Any) -> int:
    """Run COMMAND on a repository in a machine, and bring its work back as commits on a branch.

    The command is a program and its arguments; no shell reads them. For a script:

        gitmachine run -r REPO -- sh -c 'make && make test'

    Exits with the command's own code; 123 when the work could not be published and was kept, 124 after a timeout, 125
    for failures of our own, 130 when interrupted, 2 for mistakes in usage and configuration.
    """
    from gitmachine.cli.attempt import Plan
    from gitmachine.cli.report import Outcome, Progress, document

    outcome = Outcome(provider=given["provider"] or "")
    progress = Progress(quiet=as_json and not given["stream"])
    try:
        settings, gm = _prepare(given, outcome, progress)
        plan = Plan(
            command=given["command"],
            keep=given["keep"],
            auto_commit=settings.auto_commit,
            as_json=as_json,
            stream=given["stream"],
            debug=invocation.debug,
        )
        for hint in settings.hints:
            progress.line(hint)
        _carry_out(plan, gm, outcome, progress)
    except Exception as error:  # noqa: BLE001  # a mistake of ours too has an exit code of its own here
        outcome.status = Exit.USAGE if isinstance(error, NOTHING_STARTED) else Exit.RUN_FAILURE
        outcome.error = explain(error)
        if invocation.debug:
            show_traceback(error)
        say(outcome.error)
    if as_json:
        write_json(document(outcome))
    return outcome.status


def _carry_out(plan: Plan, gm: AsyncGitMachine, outcome: Outcome, progress: Progress) -> None:
    from gitmachine.cli.attempt import Attempt
    from gitmachine.cli.report import last_line, receipt_lines

    async def attempt() -> None:
        await Attempt(plan, gm, outcome, progress).run()

    asyncio.run(attempt())
    for line in receipt_lines(outcome):
        progress.line(line)
    reason = last_line(outcome)
    if reason is not None:
        say(reason)


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


def _prepare(given: dict[str, Any], outcome: Outcome, progress: Progress) -> tuple[Settings, AsyncGitMachine]:
    """Check everything that was given and make the session; nothing starts. Raises ConfigError with every problem."""
    settings, env = _settings(given)
    if settings.repository is None:
        raise ConfigError(
            'no repository: pass --repository REPO, set GITMACHINE_REPOSITORY, or write repository = "…" in '
            f"{settings.source or 'gitmachine.toml'}"
        )
    from gitmachine.config.installed import plugin_host
    from gitmachine.config.machines import storable_options
    from gitmachine.plugins.registry import Registry
    from gitmachine.session import AsyncGitMachine

    host = plugin_host(settings)
    registry = Registry(host)
    chosen = _chosen(settings, registry, given)
    outcome.provider = chosen.provider
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
        path=settings.path,
        name=given["name"],
        on_event=lambda name, data, _gm: progress.event(name, data),
        plugins=host,
    )
    return settings, gm


def _settings(given: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
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


def _chosen(settings: Settings, registry: Registry, given: dict[str, Any]) -> ResolvedMachine:
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
