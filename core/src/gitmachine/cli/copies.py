"""``gitmachine fork``, ``snapshot`` and ``snapshots``: copies of machines, and what new ones can be made from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import (
    config_option,
    debug_option,
    json_option,
    load_settings,
    name_argument,
    optional_name_argument,
)
from gitmachine.cli.output import write_json, write_line, write_table
from gitmachine.cli.report import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.plugins.host import PluginHost
    from gitmachine.session import AsyncGitMachine
    from gitmachine.upkeep import SavedDisk

__all__ = ["fork", "snapshot", "snapshots"]


@click.command()
@click.option("-s", "--session", metavar="SESSION", help="The new branch; left out: a fresh one.")
@click.option("--name", "copy_name", metavar="COPY", help="A name for the copy.")
@json_option
@config_option
@debug_option
@name_argument
def fork(*, name: str, session: str | None, copy_name: str | None, as_json: bool, config: Path | None) -> None:
    """Copy the machine NAME as it is now, uncommitted changes too, to another machine with a branch of its own.

    Prints what to call the copy by, and its branch. Both go on, and are stopped on their own.
    """
    from gitmachine.cli.acting import act
    from gitmachine.cli.start import described, tell

    async def work(gm: AsyncGitMachine) -> dict[str, Any]:
        copy = await gm.fork(session, name=copy_name)
        try:
            return await described(copy)
        finally:
            await copy.close()

    tell(act(name, work, doing="fork", config=config), as_json=as_json)


@click.command()
@click.option("--name", "wanted", metavar="SNAPSHOT", help="What to call it; else the provider chooses.")
@json_option
@config_option
@debug_option
@name_argument
def snapshot(*, name: str, wanted: str | None, as_json: bool, config: Path | None) -> None:
    """Save the disk of the machine NAME, which goes on, and print what a new machine can be made from."""
    from gitmachine.cli.acting import act

    made = act(name, lambda gm: gm.snapshot(wanted), doing="snapshot", config=config)
    if as_json:
        write_json({"snapshot": made})
    else:
        write_line(made)


@click.command()
@click.option("--delete", "unwanted", multiple=True, metavar="SNAPSHOT", help="Delete it first; may be given again.")
@click.option("-p", "--provider", metavar="PROVIDER", help="Without NAME: only this provider's.")
@json_option
@config_option
@debug_option
@optional_name_argument
def snapshots(
    *, name: str | None, unwanted: tuple[str, ...], provider: str | None, as_json: bool, config: Path | None
) -> None:
    """List the snapshots that still exist of the machine NAME, which may have ended, the oldest first.

    Without NAME, those of every machine, at every provider that can list them, with what each was made of.
    """
    if name is None:
        found = _of_all(unwanted, provider, config)
        if as_json:
            write_json({"snapshots": [one.as_dict() for one in found]})
        elif found:
            write_table(["SNAPSHOT", "MACHINE", "STATE", "PROVIDER", "MADE", "SIZE"], [_row(one) for one in found])
        else:
            say("no snapshot")
        return
    if provider is not None:
        raise click.UsageError("--provider is for all snapshots: leave it out, or NAME")
    names = _of_one(name, unwanted, config)
    if as_json:
        write_json({"snapshots": names})
        return
    for one in names:
        write_line(one)
    if not names:
        say("no snapshot")


def _of_one(name: str, unwanted: Sequence[str], config: Path | None) -> list[str]:
    """Return the snapshots of one machine, by its provider or else by the machine itself."""
    from gitmachine.cli.acting import act, interruptible
    from gitmachine.config.installed import plugin_host
    from gitmachine.errors import UnsupportedOperation
    from gitmachine.upkeep import delete_snapshot, snapshots_of

    host = plugin_host(load_settings(config))

    async def by_provider() -> list[str]:
        for one in unwanted:
            await delete_snapshot(one, machine=name, plugins=host)
        return [one.snapshot for one in await snapshots_of(name, plugins=host)]

    async def by_machine(gm: AsyncGitMachine) -> list[str]:
        for one in unwanted:
            await gm.delete_snapshot(one)
        return await gm.snapshots()

    try:
        return interruptible(lambda interrupts: interrupts.run(by_provider()), "snapshots")
    except UnsupportedOperation:
        return act(name, by_machine, doing="snapshots", config=config, adopt=False)


def _of_all(unwanted: Sequence[str], provider: str | None, config: Path | None) -> tuple[SavedDisk, ...]:
    from gitmachine.cli.acting import interruptible
    from gitmachine.config.installed import plugin_host
    from gitmachine.upkeep import delete_snapshot
    from gitmachine.upkeep import snapshots as all_snapshots

    settings = load_settings(config)
    host = plugin_host(settings)

    async def work() -> tuple[SavedDisk, ...]:
        keywords: dict[str, Any] = {
            "provider": provider,
            "options": await asyncio.to_thread(_configured, settings, host),
            "plugins": host,
            "report": say,
        }
        for one in unwanted:
            await delete_snapshot(one, **keywords)
        return await all_snapshots(**keywords)

    return interruptible(lambda interrupts: interrupts.run(work()), "snapshots")


def _configured(settings: Settings, host: PluginHost) -> dict[str, Mapping[str, Any]]:
    """Return the options that the configuration has for each provider that can list snapshots and has any."""
    from gitmachine.config.machines import resolve_machine
    from gitmachine.errors import ConfigError
    from gitmachine.plugins.registry import Registry

    found: dict[str, Mapping[str, Any]] = {}
    aliases = {offer.spec.name: offer.spec.aliases for offer in Registry(host).providers() if offer.spec.snapshots}
    for name in aliases:
        try:
            table = resolve_machine(settings, provider=name, aliases=aliases.__getitem__)
        except ConfigError as error:
            say(f"the configured options of the provider {name!r} were not used: {error}")
            continue
        if table.unresolved_options:
            found[name] = table.unresolved_options
    return found


def _row(one: SavedDisk) -> list[str]:
    return [
        one.snapshot,
        one.machine or (one.machine_id or "-")[:12],
        one.state or "-",
        one.provider,
        "-" if one.created is None else f"{one.created:%Y-%m-%d %H:%M:%SZ}",
        "-" if one.size_bytes is None else size(one.size_bytes),
    ]
