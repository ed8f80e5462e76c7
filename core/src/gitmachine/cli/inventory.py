"""``gitmachine ls`` and ``show``: the machines that this host knows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.messages import explain, say
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings, name_argument
from gitmachine.cli.output import write_json, write_line, write_table
from gitmachine.errors import GitMachineError, StateError

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.state.records import CommandRecord, Intent, MachineRecord

__all__ = ["ls", "show"]


@click.command()
@click.option("--all", "everything", is_flag=True, help="Machines that have ended, too.")
@json_option
@config_option
@debug_option
def ls(*, everything: bool, as_json: bool, config: Path | None) -> None:
    """List the machines. What processes before left half done is finished or undone first, and told."""
    from gitmachine.cli.acting import interruptible

    async def main(interrupts: Interrupts) -> tuple[list[MachineRecord], list[dict[str, Any]]]:
        recovered = await interrupts.run(_recover(config))
        return await _machines(everything=everything), recovered

    records, recovered = interruptible(main, "ls")
    if as_json:
        write_json({"machines": [_described(record) for record in records], "recovered": recovered})
    elif records:
        rows = [
            [
                record.name or "-",
                record.machine_id or record.key,
                record.provider,
                record.state,
                record.session,
                record.repository,
                _age(record.created),
                _owner(record),
            ]
            for record in records
        ]
        write_table(["NAME", "ID", "PROVIDER", "STATE", "SESSION", "REPOSITORY", "AGE", "OWNER"], rows)
    else:
        say("no machine" if everything else "no machine is alive (--all lists those that have ended)")


async def _recover(config: Path | None) -> list[dict[str, Any]]:
    """Finish or undo what is half done; what prevents that prevents no listing."""
    from gitmachine.cli.acting import means
    from gitmachine.upkeep import recover_all

    try:
        found = await recover_all(**await means(load_settings(config)))
    except GitMachineError as error:
        say(f"what is half done was not looked at: {explain(error)}")
        return []
    for recovery in found:
        for sentence in recovery.sentences:
            say(sentence)
        if recovery.problem:
            say(f"{recovery.label}: {recovery.problem}")
    return [recovery.as_dict() for recovery in found]


async def _machines(*, everything: bool) -> list[MachineRecord]:
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    async with await Journal.aopen(Places.default().ensure()) as journal:
        return await journal.machines(include_ended=everything)


@click.command()
@json_option
@debug_option
@name_argument
def show(*, name: str, as_json: bool) -> None:
    """Show what this host knows of the machine NAME, also after its end; the machine itself is not asked."""
    record, commands, intents = asyncio.run(_known(name))
    found = {**_described(record), **_remembered(record)}
    found["commands"] = len(commands)
    found["last_command"] = _last(commands)
    found["half_done"] = [{"operation": intent.operation, "since": intent.started.isoformat()} for intent in intents]
    if as_json:
        write_json(found)
        return
    for key, value in found.items():
        if key not in ("owner", "orphan") and value not in (None, [], {}):
            write_line(f"{key.replace('_', ' ')}: {_shown(value)}")
    write_line(f"owner: {_owner(record)}")


async def _known(name: str) -> tuple[MachineRecord, list[CommandRecord], list[Intent]]:
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    async with await Journal.aopen(Places.default().ensure()) as journal:
        record = await journal.machine(name)
        return record, await journal.commands(record.key), await journal.open_intents(record.key)


def _remembered(record: MachineRecord) -> dict[str, Any]:
    """Return how its session was started, as far as that is no secret: of variables only the names."""
    from gitmachine.state.memory import recall
    from gitmachine.state.places import Places

    places = Places.default()
    kept = {"work": str(places.sessions / f"{record.key}.git")}
    try:
        memory = asyncio.run(recall(places, record.key))
    except StateError:
        return kept  # it has ended, or its start did not come so far
    return {
        "start": memory.start_sha,
        "env": sorted(memory.env),
        "timeout": memory.timeout,
        "auto_commit": memory.auto_commit,
        "transport": memory.git.transport,
        **kept,
    }


def _described(record: MachineRecord) -> dict[str, Any]:
    from gitmachine.state.owner import is_alive
    from gitmachine.upkeep import is_orphan

    pid = record.owner_pid
    return {
        "name": record.name,
        "machine": record.machine_id,
        "key": record.key,
        "provider": record.provider,
        "state": record.state,
        "repository": record.repository,
        "session": record.session,
        "path": record.repo_path,
        "head": record.head,
        "options": dict(record.options),
        "created": record.created.isoformat(),
        "updated": record.updated.isoformat(),
        "owner": None if pid is None else {"pid": pid, "alive": is_alive(pid, record.owner_start)},
        "orphan": not record.ended and is_orphan(record),
    }


def _owner(record: MachineRecord) -> str:
    from gitmachine.upkeep import is_orphan

    if record.owner_pid is None or record.ended:
        return "-"
    return f"{record.owner_pid} (gone)" if is_orphan(record) else str(record.owner_pid)


def _last(commands: list[CommandRecord]) -> dict[str, Any] | None:
    if not commands:
        return None
    last = commands[-1]
    return {
        "command": last.command,
        "started": last.started.isoformat(),
        "exit_code": last.exit_code,
        "state": last.state,
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) if isinstance(item, dict) else str(item) for item in value)
    return str(value).replace("\n", "\\n")


def _age(since: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
