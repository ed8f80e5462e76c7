"""What machines did: intents written before their effects, and the command log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gitmachine.errors import StateError
from gitmachine.state.owner import is_alive, this_process
from gitmachine.state.records import CommandRecord, Intent
from gitmachine.state.rows import dump, load_text, load_time, store_text, store_time

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

__all__ = [
    "add_begun",
    "add_commands",
    "add_intent",
    "end_begun",
    "finish_intent",
    "list_begun",
    "list_commands",
    "list_open_intents",
    "new_commands",
    "was_intended",
]

_COMMAND = "command, started, duration, exit_code, timed_out, head"


def add_intent(connection: sqlite3.Connection, key: str, operation: str, detail: Mapping[str, Any] | None) -> int:
    """Write that an operation is about to happen; return the intent's id."""
    if connection.execute("SELECT 1 FROM machines WHERE key = ?", (key,)).fetchone() is None:
        raise StateError(f"the journal has no machine with the key {key!r}")
    cursor = connection.execute(
        "INSERT INTO intents (key, operation, detail, started) VALUES (?, ?, ?, ?)",
        (key, operation, dump(detail), store_time(datetime.now(UTC))),
    )
    return int(cursor.lastrowid or 0)


def finish_intent(connection: sqlite3.Connection, intent: int, outcome: Mapping[str, Any] | None) -> None:
    """Write how an operation ended; one that has ended already stays as it is."""
    connection.execute(
        "UPDATE intents SET outcome = ?, finished = ? WHERE id = ? AND finished IS NULL",
        (dump(outcome), store_time(datetime.now(UTC)), intent),
    )


def list_open_intents(connection: sqlite3.Connection, key: str | None) -> list[Intent]:
    """Return what was begun and not ended, of one machine or of all, the oldest first."""
    rows = connection.execute(
        "SELECT id, key, operation, detail, started FROM intents "
        "WHERE finished IS NULL AND (:key IS NULL OR key = :key) ORDER BY id",
        {"key": key},
    ).fetchall()
    return [
        Intent(id=row[0], key=row[1], operation=row[2], detail=json.loads(row[3]), started=load_time(row[4]))
        for row in rows
    ]


def was_intended(connection: sqlite3.Connection, key: str, operation: str) -> bool:
    """Tell whether an operation was ever begun on a machine."""
    query = "SELECT 1 FROM intents WHERE key = ? AND operation = ? LIMIT 1"
    return connection.execute(query, (key, operation)).fetchone() is not None


def add_commands(connection: sqlite3.Connection, entries: Iterable[tuple[str, CommandRecord]]) -> None:
    """Append to the command log; a command without HEAD gets the one that its machine's record has now."""
    connection.executemany(
        "INSERT INTO commands (key, command, started, duration, exit_code, timed_out, head) "
        "VALUES (?, ?, ?, ?, ?, ?, COALESCE(?, (SELECT head FROM machines WHERE key = ?)))",
        [
            (
                key,
                store_text(entry.command),
                store_time(entry.started),
                entry.duration,
                entry.exit_code,
                int(entry.timed_out),
                entry.head,
                key,
            )
            for key, entry in entries
        ],
    )


def add_begun(connection: sqlite3.Connection, entries: Iterable[tuple[str, CommandRecord]]) -> list[int]:
    """Write commands down that this process waits for; return their numbers, which are never used again."""
    pid, start = this_process()
    return [
        int(
            connection.execute(
                "INSERT INTO begun (key, command, started, head, pid, pid_start) "
                "VALUES (?, ?, ?, (SELECT head FROM machines WHERE key = ?), ?, ?)",
                (key, store_text(entry.command), store_time(entry.started), key, pid, start),
            ).lastrowid
            or 0
        )
        for key, entry in entries
    ]


def end_begun(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Take away what `add_begun` wrote, in the transaction that writes how it ended."""
    connection.executemany("DELETE FROM begun WHERE id = ?", [(number,) for number in numbers])


def list_begun(connection: sqlite3.Connection, key: str) -> list[tuple[int, CommandRecord]]:
    """Return the commands of a machine whose end nobody wrote, by number: running, or their process is gone."""
    rows = connection.execute(
        "SELECT id, command, started, head, pid, pid_start FROM begun WHERE key = ? ORDER BY id", (key,)
    ).fetchall()
    now = datetime.now(UTC)
    return [
        (int(number), _unended(load_text(command) or "", load_time(started), head, now, alive=is_alive(pid, start)))
        for number, command, started, head, pid, start in rows
    ]


def _unended(command: str, started: datetime, head: str | None, now: datetime, *, alive: bool) -> CommandRecord:
    return CommandRecord(
        command=command,
        started=started,
        duration=max(0.0, (now - started).total_seconds()) if alive else None,
        exit_code=None,
        head=head,
        state="running" if alive else "interrupted",
    )


def list_commands(connection: sqlite3.Connection, key: str, since: datetime | None) -> list[CommandRecord]:
    """Return the commands of a machine that started at or after a time, ended or not, the oldest first."""
    query = f"SELECT {_COMMAND} FROM commands WHERE key = ? AND started >= ? ORDER BY started, id"  # noqa: S608  # our own names
    found = [_command(row) for row in connection.execute(query, (key, "" if since is None else store_time(since)))]
    unended = [entry for _, entry in list_begun(connection, key) if since is None or entry.started >= since]
    return sorted(found + unended, key=lambda entry: entry.started) if unended else found


def new_commands(connection: sqlite3.Connection, key: str, after: int) -> list[tuple[int, CommandRecord]]:
    """Return the commands of a machine whose end was logged after the one with this number, each with its own."""
    query = f"SELECT {_COMMAND}, id FROM commands WHERE key = ? AND id > ? ORDER BY id"  # noqa: S608  # our own names
    return [(int(row[-1]), _command(row)) for row in connection.execute(query, (key, after))]


def _command(row: tuple[Any, ...]) -> CommandRecord:
    return CommandRecord(
        command=load_text(row[0]) or "",
        started=load_time(row[1]),
        duration=row[2],
        exit_code=row[3],
        timed_out=bool(row[4]),
        head=row[5],
    )
