"""``gitmachine cache``: what this host keeps, and within which bounds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import debug_option, json_option
from gitmachine.cli.output import write_json, write_table
from gitmachine.cli.report import size

if TYPE_CHECKING:
    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.upkeep import CacheUsage, Pruned

__all__ = ["cache"]

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE | re.ASCII)
        if match is None:
            self.fail(f"expected a number of bytes such as 500M or 2G, not {value!r}", param, ctx)
        return int(match[1]) * _UNITS[match[2].upper()]


@click.group(invoke_without_command=True)
@json_option
@debug_option
@click.pass_context
def cache(context: click.Context, *, as_json: bool) -> None:
    """Show and prune the copies of repositories on this host; without a subcommand, show."""
    if context.invoked_subcommand is None:
        context.invoke(show, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"write --json after {context.invoked_subcommand!r}", context)


@cache.command()
@json_option
@debug_option
def show(*, as_json: bool) -> None:
    """Show each copy: its size, when it was used last, and why it must stay."""
    from gitmachine.cli.acting import interruptible
    from gitmachine.upkeep import cache_usage

    async def main(interrupts: Interrupts) -> CacheUsage:
        return await interrupts.run(cache_usage())

    usage = interruptible(main, "cache show")
    if as_json:
        write_json(usage.as_dict())
        return
    rows = [
        [
            entry.kind,
            entry.name,
            size(entry.size_bytes),
            f"{entry.last_used:%Y-%m-%d %H:%M:%SZ}",
            entry.repository or "-",
            entry.needed or "-",
        ]
        for entry in usage.entries
    ]
    if rows:
        write_table(["KIND", "NAME", "SIZE", "LAST USED", "REPOSITORY", "NEEDED"], rows)
    say(f"{size(usage.total_bytes)} in all")


@cache.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Remove what was not used for so long.",
)
@click.option("--max-size", type=_Size(), metavar="SIZE", help="Then remove the oldest until all fits, such as 2G.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
@debug_option
def prune(*, max_age: float, max_size: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove copies that nothing needs; never the only copy of any work."""
    from gitmachine.cli.acting import interruptible
    from gitmachine.upkeep import prune_cache

    async def main(interrupts: Interrupts) -> tuple[Pruned, ...]:
        return await interrupts.run(prune_cache(max_age_days=max_age, max_bytes=max_size, dry_run=dry_run))

    found = interruptible(main, "cache prune")
    if as_json:
        write_json({"dry_run": dry_run, "pruned": [one.as_dict() for one in found]})
        return
    rows = [
        [one.entry.kind, one.entry.name, size(one.entry.size_bytes), _done(one, dry_run=dry_run), one.why]
        for one in found
    ]
    if rows:
        write_table(["KIND", "NAME", "SIZE", "DONE", "WHY"], rows)
    freed = sum(one.entry.size_bytes for one in found if one.removed)
    say(f"{size(freed)} {'would be ' if dry_run else ''}freed")


def _done(one: Pruned, *, dry_run: bool) -> str:
    if not one.removed:
        return "kept"
    return "would go" if dry_run else "removed"
