"""``gitmachine withheld``: files that a guard kept out of commits, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import say
from gitmachine.cli.options import debug_option, json_option
from gitmachine.cli.output import write_json, write_line, write_table
from gitmachine.cli.report import size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from gitmachine.cli.interrupts import Interrupts

    T = TypeVar("T")

__all__ = ["withheld"]


@click.group(invoke_without_command=True)
@json_option
@debug_option
@click.pass_context
def withheld(context: click.Context, *, as_json: bool) -> None:
    """List, restore or drop files that were left out of automatic commits; without a subcommand, list."""
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"write --json after {context.invoked_subcommand!r}", context)


@withheld.command("list")
@json_option
@debug_option
def list_(*, as_json: bool) -> None:
    """List the files that are kept on this host because they were left out of commits."""
    from gitmachine.upkeep.withholding import withheld as find

    found = _interruptible(find, "withheld list")
    if as_json:
        write_json({"withheld": [one.as_dict() for one in found]})
    elif found:
        rows = [
            [one.key, one.branch or "-", f"{one.time:%Y-%m-%d %H:%M:%SZ}", one.path, size(one.size_bytes), one.reason]
            for one in found
        ]
        write_table(["SESSION", "BRANCH", "TIME", "FILE", "SIZE", "WHY"], rows)
    else:
        say("nothing was withheld")


@withheld.command("restore")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--file", "files", multiple=True, metavar="PATH", help="Only this file; may be given several times.")
@json_option
@debug_option
@click.argument("name", metavar="SESSION")
@click.argument("folder", metavar="DIR", default=".", type=click.Path(file_okay=False))
def restore(*, name: str, folder: str, files: tuple[str, ...], overwrite: bool, as_json: bool) -> int:
    """Write the withheld files of SESSION below DIR (the working directory), readable by you only.

    SESSION is the session's key or its beginning, its branch, or its machine's name. Exits with 1 when a file could
    not be written.
    """
    from gitmachine.upkeep.withholding import restore_withheld

    done = _interruptible(lambda: restore_withheld(name, folder, paths=files, overwrite=overwrite), "withheld restore")
    if as_json:
        write_json({"restored": [one.as_dict() for one in done]})
    for one in done:
        if one.problem is not None:
            say(one.problem)
        elif not as_json:
            write_line(one.file or "")
    return Exit.FAILURE if any(one.problem is not None for one in done) else Exit.OK


@withheld.command("drop")
@json_option
@debug_option
@click.argument("name", metavar="SESSION")
def drop(*, name: str, as_json: bool) -> None:
    """Forget the withheld files of SESSION, so that this host need not keep them."""
    from gitmachine.upkeep.withholding import drop_withheld

    dropped = _interruptible(lambda: drop_withheld(name), "withheld drop")
    if as_json:
        write_json({"dropped": [one.as_dict() for one in dropped]})
    else:
        say(f"dropped {len(dropped)} file{'' if len(dropped) == 1 else 's'}: {', '.join(one.path for one in dropped)}")


def _interruptible(work: Callable[[], Awaitable[T]], doing: str) -> T:
    from gitmachine.cli.acting import interruptible

    async def main(interrupts: Interrupts) -> T:
        async def working() -> T:
            return await work()

        return await interrupts.run(working())

    return interruptible(main, doing)
