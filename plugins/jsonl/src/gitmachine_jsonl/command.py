"""``gitmachine events``: what was logged."""

from __future__ import annotations

import collections
import json
from typing import Any

import click

from gitmachine_jsonl.log import VARIABLE, EventLog

__all__ = ["events"]


@click.command()
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@click.option("-s", "--session", metavar="SESSION", help="Only those of one session branch.")
@click.option("-e", "--event", "names", multiple=True, metavar="EVENT", help="Only these, such as pushed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def events(*, last: int | None, session: str | None, names: tuple[str, ...], as_json: bool) -> None:
    """Print the events that were logged on this host, the oldest first."""
    log = EventLog.default()
    if log is None:
        raise click.ClickException(f"the event log is off ({VARIABLE}=-)")
    fitting = (
        record
        for record in log.lines()
        if (session is None or record.get("session") == session) and (not names or record.get("event") in names)
    )
    chosen = list(collections.deque(fitting, maxlen=last))
    if as_json:
        click.echo(json.dumps({"file": str(log.path), "events": chosen}))
        return
    for record in chosen:
        click.echo(_line(record))


def _line(record: dict[str, Any]) -> str:
    data = record.get("data")
    told = " ".join(f"{key}={json.dumps(value)}" for key, value in data.items()) if isinstance(data, dict) else ""
    where = record.get("name") or record.get("machine") or "-"
    text = f"{record.get('time')} {record.get('event')} {where} {record.get('session')} {told}".rstrip()
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
