"""``gitmachine rescue`` and ``gc``: work saved from failures, and machines that nobody holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json, write_line, write_table
from gitmachine.cli.report import short, size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeVar

    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.outcomes import PushResult
    from gitmachine.upkeep import Collected, SavedWork

    T = TypeVar("T")

__all__ = ["gc", "rescue"]


@click.group(invoke_without_command=True)
@json_option
@debug_option
@click.pass_context
def rescue(context: click.Context, *, as_json: bool) -> None:
    """List, show, push or drop the work that could not be published; without a subcommand, list."""
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"write --json after {context.invoked_subcommand!r}", context)


@rescue.command("list")
@json_option
@debug_option
def list_(*, as_json: bool) -> None:
    """List the work that is safe on this host only, the oldest first."""
    from gitmachine.upkeep import rescues

    found = _interruptible(rescues, "rescue list")
    if as_json:
        write_json({"rescues": [saved.as_dict() for saved in found]})
    elif found:
        rows = [
            [
                saved.name,
                f"{saved.time:%Y-%m-%d %H:%M:%SZ}",
                saved.branch,
                short(saved.sha),
                saved.remote or "-",
                size(saved.size_bytes),
                _fate(saved),
            ]
            for saved in found
        ]
        write_table(["RESCUE", "TIME", "BRANCH", "COMMIT", "REMOTE", "SIZE", "STATE"], rows)
    else:
        say("no rescued work")


def _fate(saved: SavedWork) -> str:
    if saved.published is not None:
        return f"published as {saved.published.branch}"
    return f"machine {saved.machine} has it too" if saved.machine_kept else "only here"


@rescue.command("show")
@json_option
@debug_option
@click.argument("name", metavar="RESCUE")
def show(*, name: str, as_json: bool) -> None:
    """Show what a rescue holds: its commits, the files they change, and work beside the branch."""
    from gitmachine.upkeep import show_rescue

    details = _interruptible(lambda: show_rescue(name), "rescue show")
    if as_json:
        write_json(details.as_dict())
        return
    saved = details.work
    write_line(f"{saved.name}: {saved.branch} at {short(saved.sha)}, for {saved.remote or 'no remote'}")
    write_line(f"why: {saved.reason}")
    write_line(f"where: {saved.bundle or saved.repository} ({_fate(saved)})")
    for commit in details.commits:
        write_line(
            f"commit {short(commit.sha)} {commit.time:%Y-%m-%d %H:%M:%SZ} {commit.author_name}: {commit.subject}"
        )
    for change in details.files:
        write_line(f"{change.status} {change.path if change.path.isprintable() else repr(change.path)}")
    for kept in details.kept:
        write_line(f"kept {kept.kind} {kept.name} at {short(kept.sha)}: {kept.ref}")


@rescue.command("push")
@click.option("--branch", metavar="BRANCH", help="Another branch of the remote to push to.")
@click.option("--ref", metavar="REF", help="What to push instead of the session branch: a ref that `show` lists.")
@json_option
@config_option
@debug_option
@click.argument("name", metavar="RESCUE")
def push(*, name: str, branch: str | None, ref: str | None, as_json: bool, config: Path | None) -> None:
    """Push rescued work to its remote and verify that it has it; never by force. Exits with 3 when it is refused."""
    from gitmachine.cli.acting import means
    from gitmachine.upkeep import push_rescue, show_rescue

    settings = load_settings(config)

    async def work() -> PushResult:
        saved = (await show_rescue(name)).work
        return await push_rescue(
            saved.name, branch=branch, ref=ref, **await means(settings, repository=saved.remote or "")
        )

    result = _interruptible(work, "rescue push")
    if as_json:
        write_json(result)
    else:
        say(f"the remote has {result.branch} at {short(result.remote_sha)} ({result.status})")


@rescue.command("drop")
@click.option("--force", is_flag=True, help="Also when the remote lacks some of it.")
@json_option
@debug_option
@click.argument("name", metavar="RESCUE")
def drop(*, name: str, force: bool, as_json: bool) -> None:
    """Remove rescued work; refused while the remote lacks some of it."""
    from gitmachine.upkeep import drop_rescue

    saved = _interruptible(lambda: drop_rescue(name, force=force), "rescue drop")
    if as_json:
        write_json(saved.as_dict())
    else:
        say(f"dropped {saved.name} ({saved.branch} at {short(saved.sha)})")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--force", is_flag=True, help="End machines also when their work cannot be published; it is kept here.")
@click.option(
    "--retention-days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="How long what an ended machine left is kept.",
)
@json_option
@config_option
@debug_option
def gc(*, dry_run: bool, force: bool, retention_days: float, as_json: bool, config: Path | None) -> int:
    """Collect machines whose owner is gone, their work published or rescued before, and what else is left over.

    Exits with 3 when something holds work that could not be published, and was kept.
    """
    from gitmachine.cli.acting import means
    from gitmachine.upkeep import collect_garbage

    settings = load_settings(config)

    async def work() -> tuple[Collected, ...]:
        return await collect_garbage(
            dry_run=dry_run, force=force, retention_days=retention_days, **await means(settings)
        )

    found = _interruptible(work, "gc")
    if as_json:
        write_json({"dry_run": dry_run, "collected": [one.as_dict() for one in found]})
    else:
        for one in found:
            write_line(f"{one.kind} {one.label}: {one.why}: {one.done}")
        if not found:
            say("nothing to collect")
    failed = {one.kind for one in found if not one.ok} - {"unknown", "snapshots"}  # those are only reported
    if dry_run or not failed:
        return Exit.OK
    return Exit.KEPT if "machine" in failed else Exit.FAILURE


def _interruptible(work: Callable[[], Awaitable[T]], doing: str) -> T:
    from gitmachine.cli.acting import interruptible

    async def main(interrupts: Interrupts) -> T:
        async def working() -> T:
            return await work()

        return await interrupts.run(working())

    return interruptible(main, doing)
