"""``gitmachine fork``, ``snapshot`` and ``snapshots``: copies of machines, and what new ones can be made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, name_argument
from gitmachine.cli.output import write_json, write_line

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.session import AsyncGitMachine

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
@json_option
@config_option
@debug_option
@name_argument
def snapshots(*, name: str, unwanted: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """List the snapshots that were made of the machine NAME and still exist, the oldest first."""
    from gitmachine.cli.acting import act

    async def work(gm: AsyncGitMachine) -> list[str]:
        for one in unwanted:
            await gm.delete_snapshot(one)
        return await gm.snapshots()

    found = act(name, work, doing="snapshots", config=config, adopt=False)
    if as_json:
        write_json({"snapshots": found})
    elif found:
        for one in found:
            write_line(one)
    else:
        say("no snapshot")
