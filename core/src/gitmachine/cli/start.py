"""``gitmachine start`` and ``connect``: a machine for other processes to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.acting import interruptible, means
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json, write_line
from gitmachine.cli.prepare import prepare, session_options
from gitmachine.cli.report import Progress
from gitmachine.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.session import AsyncGitMachine

__all__ = ["connect", "described", "start", "tell"]


@click.command()
@session_options
@json_option
@config_option
@debug_option
def start(*, as_json: bool, **given: Any) -> None:
    """Start a machine with the repository in it, and leave it for `exec`, `commit`, `stop` and the others.

    Prints what to call it by (its name, else its id) and the session branch.
    """
    progress = Progress(quiet=as_json)
    prepared = prepare(given, progress.event, leaves=True)
    for hint in prepared.hints:
        progress.line(hint)
    gm = prepared.gm

    async def main(interrupts: Interrupts) -> dict[str, Any]:
        progress.line(f"starting a machine ({prepared.provider}) for {gm.repository}")
        try:
            await interrupts.run(gm.start())
        except Interrupted:
            say("interrupted: the start was undone; nothing is left behind")
            raise
        try:
            return await described(gm)
        finally:
            await gm.close()

    tell(interruptible(main, "start"), as_json=as_json)


@click.command()
@click.argument("provider", metavar="PROVIDER")
@click.argument("machine", metavar="ID")
@click.option("-r", "--repository", "--repo", metavar="REPO", help="The repository that is in it.")
@click.option("-s", "--session", metavar="SESSION", help="Its session branch; without it the one checked out.")
@click.option("-o", "--option", multiple=True, metavar="KEY=VALUE", help="An option of the provider.")
@click.option("--path", metavar="PATH", help="Where the repository is in the machine.")
@click.option("--name", metavar="NAME", help="A name for the machine.")
@json_option
@config_option
@debug_option
def connect(*, provider: str, machine: str, as_json: bool, config: Path | None, **given: Any) -> None:
    """Take over the machine that PROVIDER knows as ID, with the repository in it, for `exec`, `stop` and the others."""
    overrides = {key: given[key] for key in ("repository", "session")}
    settings = load_settings(config, {**overrides, "provider": None})

    async def main(interrupts: Interrupts) -> dict[str, Any]:
        gm = await interrupts.run(_connected(settings, provider, machine, given))
        try:
            return await described(gm)
        finally:
            await gm.close()

    tell(interruptible(main, "connect"), as_json=as_json)


async def _connected(settings: Settings, provider: str, machine: str, given: dict[str, Any]) -> AsyncGitMachine:
    from gitmachine.config.machines import resolve_machine, storable_options
    from gitmachine.plugins.registry import Registry
    from gitmachine.session import AsyncGitMachine

    key = await _known(provider, machine)
    if key is not None:
        chosen_by_user = {name: given[name] for name in ("session", "path") if given[name] is not None}
        return await AsyncGitMachine.connect(key, **await means(settings, key), **chosen_by_user)
    if settings.repository is None:
        raise ConfigError(
            f"this host does not know the machine {machine!r} of {provider!r}, so its repository must be named: "
            "pass --repository REPO"
        )
    made = await means(settings)
    registry = Registry(made["plugins"])

    def aliases(name: str) -> tuple[str, ...]:
        spec = registry.resolve(name)
        return (spec.name, *spec.aliases)

    chosen = resolve_machine(settings, provider=provider, options=given["option"], aliases=aliases)
    found = await registry.connect(chosen.provider, machine, chosen.options)
    return await AsyncGitMachine.connect(
        found,
        repository=settings.repository,
        token=settings.token,
        plugins=made["plugins"],
        session=given["session"] or (settings.session if settings.origins.get("session") == "argument" else None),
        options=storable_options(registry.config_class(chosen.provider), chosen.unresolved_options),
        env=settings.env,
        identity=settings.identity,
        auto_commit=settings.auto_commit,
        timeout=settings.timeout,
        git=settings.git,
        guard=settings.guard,
        path=given["path"] or settings.path,
        name=given["name"],
    )


async def _known(provider: str, machine: str) -> str | None:
    """Return the journal's key of a provider's machine that lives, or None."""
    from gitmachine.provider import normalize_name
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    async with await Journal.aopen(Places.default().ensure()) as journal:
        for record in await journal.machines():
            if record.machine_id == machine and normalize_name(record.provider) == normalize_name(provider):
                return record.key
    return None


async def described(gm: AsyncGitMachine) -> dict[str, Any]:
    """Return what there is to say of a session."""
    return {
        "name": gm.name,
        "machine": gm.id,
        "key": gm.key,
        "provider": gm.machine.provider,
        "state": str(gm.state),
        "repository": gm.repository,
        "session": gm.session,
        "path": gm.path,
        "head": await gm.hash(),
    }


def tell(made: dict[str, Any], *, as_json: bool) -> None:
    """Print it: as a document, or as what to call the machine by, and the branch."""
    if as_json:
        write_json(made)
    else:
        write_line(f"{made['name'] or made['machine']} {made['session']}")
