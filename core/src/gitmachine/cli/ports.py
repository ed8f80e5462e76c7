"""``gitmachine port``: where a port of a machine can be reached."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, name_argument
from gitmachine.cli.output import write_json, write_line

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.session import AsyncGitMachine

__all__ = ["port"]

_LOOK_SECONDS = 15.0


@click.command()
@json_option
@config_option
@debug_option
@name_argument
@click.argument("number", metavar="PORT", type=click.IntRange(1, 65535))
def port(*, name: str, number: int, as_json: bool, config: Path | None) -> None:
    """Print where PORT of the machine NAME can be reached from here, as host:port.

    Where the way to it lasts only as long as this command, it says so and stays until Ctrl-C.
    """
    from gitmachine.cli.acting import act

    printed = False

    async def work(gm: AsyncGitMachine) -> None:
        nonlocal printed
        host, lasts = await gm.get_host(number), gm.machine.ports_last
        if as_json:
            write_json({"host": host, "url": host.url, "lasts": lasts})
        else:
            write_line(host)
        printed = True
        if not lasts:
            say(f"port {number} of {name} is reachable there until this command ends: Ctrl-C ends it")
            await _stay(gm)

    try:
        act(name, work, doing="port", config=config)
    except click.Abort:
        if not printed:
            raise


async def _stay(gm: AsyncGitMachine) -> None:
    """Wait until the machine is gone, which is an error, or for ever."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        await gm.list_files(".")
