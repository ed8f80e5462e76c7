"""``gitmachine log`` and ``logs``: the commits with the commands behind them, and every command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, name_argument
from gitmachine.cli.output import write_json, write_json_line, write_line
from gitmachine.cli.report import commit_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.git.model import Commit
    from gitmachine.session import AsyncGitMachine
    from gitmachine.state.journal import Journal
    from gitmachine.state.records import CommandRecord, MachineRecord

__all__ = ["Step", "log", "logs", "steps"]

FOLLOW_SECONDS = 0.3
"""How often the journal is looked at for new commands."""


@attrs.frozen(kw_only=True)
class Step:
    """A commit and the commands that ran before it; None stands for what is not committed yet."""

    commit: Commit | None
    commands: tuple[CommandRecord, ...]


def steps(commits: Sequence[Commit], commands: Iterable[CommandRecord], start: str | None) -> tuple[Step, ...]:
    """Give each command to the commit that came after it.

    A command belongs to the first commit after the HEAD it was logged with that is not older than the command; a
    machine's commits have whole seconds only.

    Args:
        commits: the newest first.
        commands: the oldest first.
        start: the commit that the session began with: neither it nor what is older has commands.

    Returns:
        The newest first; the first one may be for what came after the newest commit.
    """
    position = {commit.sha: index for index, commit in enumerate(commits)}
    oldest = position.get(start, len(commits)) if start is not None else len(commits)
    found: dict[int, list[CommandRecord]] = {}
    for command in commands:
        since = position.get(command.head, oldest) if command.head is not None else oldest
        second = command.started.replace(microsecond=0)
        after = (index for index in range(min(since, oldest) - 1, -1, -1) if commits[index].time >= second)
        found.setdefault(next(after, -1), []).append(command)
    pending = (Step(commit=None, commands=tuple(found[-1])),) if -1 in found else ()
    return pending + tuple(
        Step(commit=commit, commands=tuple(found.get(index, ()))) for index, commit in enumerate(commits)
    )


@click.command()
@click.option("-n", "--number", type=click.IntRange(min=1), default=20, metavar="N", help="How many commits.")
@json_option
@config_option
@debug_option
@name_argument
def log(*, name: str, number: int, as_json: bool, config: Path | None) -> None:
    """Show the commits of the machine NAME, the newest first, each with the commands that ran before it."""
    from gitmachine.cli.acting import act

    async def work(gm: AsyncGitMachine) -> tuple[Step, ...]:
        commits = await gm.log(number)
        commands, start = await _remembered(gm.key)
        return steps(commits, commands, start)

    found = act(name, work, doing="log", config=config, adopt=False)
    if as_json:
        write_json({"steps": [_step(step) for step in found]})
        return
    for step in found:
        commit = step.commit
        if commit is None:
            write_line("(not committed)")
        else:
            write_line(commit_line(commit))
        for command in step.commands:
            write_line(f"    {_command_line(command)}")


async def _remembered(key: str) -> tuple[list[CommandRecord], str | None]:
    """Return the commands of a machine, and the commit that its session began with."""
    from gitmachine.errors import StateError
    from gitmachine.state.journal import Journal
    from gitmachine.state.memory import recall
    from gitmachine.state.places import Places

    places = Places.default()
    async with await Journal.aopen(places.ensure()) as journal:
        commands = await journal.commands(key)
    try:
        memory = await recall(places, key)
    except StateError:
        return commands, None  # then times alone decide
    return commands, memory.start_sha


def _step(step: Step) -> dict[str, Any]:
    commit = step.commit
    return {
        "commit": None if commit is None else {**attrs.asdict(commit), "time": commit.time.isoformat()},
        "commands": [_command(command) for command in step.commands],
    }


def _command(command: CommandRecord) -> dict[str, Any]:
    return {**attrs.asdict(command), "started": command.started.isoformat()}


def _command_line(command: CommandRecord) -> str:
    ended = "timed out" if command.timed_out else "no code" if command.exit_code is None else command.exit_code
    if command.state != "ended":
        ended = command.state
    took = "?" if command.duration is None else f"{command.duration:.1f}s"
    text = command.command.replace("\n", "\\n").replace("\t", "\\t")
    return f"{command.started:%Y-%m-%d %H:%M:%SZ}  {took}  {ended}  {text}"


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones, until the machine ends or Ctrl-C.")
@json_option
@debug_option
@name_argument
def logs(*, name: str, follow: bool, as_json: bool) -> None:
    """Show every command that ran in the machine NAME: when (UTC), how long, its exit code. Works after its end too.

    One whose process was killed is "interrupted": how it ended is not known. With --follow, those that run are shown
    when they have ended; with --json too, one document a line.
    """
    from gitmachine.cli.acting import interruptible

    async def main(interrupts: Interrupts) -> None:
        await interrupts.run(_show(name, follow=follow, as_json=as_json))

    interruptible(main, "logs")


async def _show(name: str, *, follow: bool, as_json: bool) -> None:
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    async with await Journal.aopen(Places.default().ensure()) as journal:
        record = await journal.machine(name)
        if follow:
            await _follow(journal, record, as_json=as_json)
            return
        found = await journal.commands(record.key)
        if as_json:
            write_json({"commands": [_command(entry) for entry in found]})
            return
        for entry in found:
            write_line(_command_line(entry))
        if not found:
            say("no command")


async def _follow(journal: Journal, record: MachineRecord, *, as_json: bool) -> None:
    """Show each command once, when it is known how it ended or that nobody will know."""
    last = 0
    unended: set[int] = set()
    while True:
        entries = []
        for number, entry in await journal.begun(record.key):  # first: what ends meanwhile is among the ended then
            if number not in unended and (entry.state == "interrupted" or record.ended):
                unended.add(number)
                entries.append(entry)
        for number, entry in await journal.new_commands(record.key, last):
            last = number
            entries.append(entry)
        for entry in sorted(entries, key=lambda entry: entry.started):
            if as_json:
                write_json_line(_command(entry))
            else:
                write_line(_command_line(entry))
        if record.ended:
            return
        await asyncio.sleep(FOLLOW_SECONDS)
        record = await journal.machine(record.key)  # first, so that nothing it did before its end is missed
