"""How records become rows of the journal and come back; every function wants the worker's own connection."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import StateError
from gitmachine.state.owner import is_alive
from gitmachine.state.records import ENDED_STATES, LIVE_STATES, MachineRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "bound",
    "change",
    "dump",
    "end",
    "find",
    "insert",
    "list_machines",
    "load_text",
    "load_time",
    "prune",
    "store_text",
    "store_time",
]

_COLUMNS = tuple(field.name for field in attrs.fields(MachineRecord))
_SELECT = f"SELECT {', '.join(f'machines.{name}' for name in _COLUMNS)} FROM machines"  # noqa: S608  # our own names
_LIVE = f"state IN ({', '.join(repr(state) for state in LIVE_STATES)})"
_FIXED = {"key", "repository", "session", "provider", "created", "updated"}


def store_text(text: str | None) -> str | bytes | None:
    """Return text as SQLite takes it: bytes where surrogate escapes stand for bytes that are not UTF-8."""
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def load_text(value: str | bytes | None) -> str | None:
    """Return what `store_text` was given."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def store_time(time: datetime) -> str:
    """Return a time as sortable text, in UTC; a naive time is UTC already."""
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="microseconds")


def load_time(text: str) -> datetime:
    """Return the time that `store_time` was given."""
    return datetime.fromisoformat(text)


def dump(data: Mapping[str, Any] | None) -> str:
    """Return JSON for data; a value that JSON does not have becomes its text."""
    return json.dumps(dict(data or {}), default=str, sort_keys=True)


def insert(connection: sqlite3.Connection, record: MachineRecord) -> None:
    """Add a machine and bind its session's branch to it.

    Raises:
        StateError: a live machine holds the branch or the name; names it.
    """
    holder = bound(connection, record.repository, record.session)
    if holder is not None:
        raise StateError(
            f"session {record.session!r} of {record.repository} is held by {_describe(holder)}: connect to it, "
            "stop it, or let gc collect it",
            holder=holder.label,
        )
    if record.name is not None:
        rows = connection.execute(f"{_SELECT} WHERE name = ? AND {_LIVE}", (store_text(record.name),))
        for row in rows.fetchall():
            other = _record(row)
            raise StateError(
                f"the name {record.name!r} belongs to {_describe(other)}: choose another name, or stop that machine",
                holder=other.label,
            )
    marks = ", ".join("?" * len(_COLUMNS))
    try:
        connection.execute(f"INSERT INTO machines ({', '.join(_COLUMNS)}) VALUES ({marks})", _values(record))  # noqa: S608  # our own names
    except sqlite3.IntegrityError as error:
        raise StateError(f"the journal has a machine with the key {record.key!r} already: use new_key()") from error
    # What an ended machine left: it is free.
    branch = (store_text(record.repository), store_text(record.session))
    connection.execute("DELETE FROM bindings WHERE repository = ? AND session = ?", branch)
    if not record.ended:
        connection.execute("INSERT INTO bindings VALUES (?, ?, ?)", (*branch, record.key))


def change(connection: sqlite3.Connection, key: str, fields: Mapping[str, Any]) -> None:
    """Change fields of a machine and its time of update; an ended state frees its branch."""
    unknown = sorted(set(fields) - (set(_COLUMNS) - _FIXED))
    if unknown:
        raise TypeError(f"not a changeable field of a machine: {', '.join(unknown)}")
    row = connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise StateError(f"the journal has no machine with the key {key!r}")
    known = _record(row)
    if known.ended:
        # How it ended stays as it is: somebody who did not know yet may come after whoever ended it.
        fields = {name: value for name, value in fields.items() if name != "state"}
    record = attrs.evolve(known, updated=datetime.now(UTC), **fields)
    names = (*fields, "updated")
    values = dict(zip(_COLUMNS, _values(record), strict=True))
    settings = ", ".join(f"{name} = ?" for name in names)
    connection.execute(f"UPDATE machines SET {settings} WHERE key = ?", (*(values[name] for name in names), key))  # noqa: S608  # our own names
    if record.ended:
        connection.execute("DELETE FROM bindings WHERE key = ?", (key,))


def end(connection: sqlite3.Connection, key: str, state: str) -> None:
    """Put a machine into an ended state, free its branch and close what it had open."""
    if state not in ENDED_STATES:
        raise ValueError(f"a machine ends as one of {', '.join(ENDED_STATES)}, not as {state!r}")
    change(connection, key, {"state": state})
    connection.execute(
        "UPDATE intents SET outcome = ?, finished = ? WHERE key = ? AND finished IS NULL",
        (dump({"ended": state}), store_time(datetime.now(UTC)), key),
    )


def bound(connection: sqlite3.Connection, repository: str, session: str) -> MachineRecord | None:
    """Return the live machine that holds a session's branch."""
    row = connection.execute(
        f"{_SELECT} JOIN bindings ON bindings.key = machines.key "
        f"WHERE bindings.repository = ? AND bindings.session = ? AND {_LIVE}",
        (store_text(repository), store_text(session)),
    ).fetchone()
    return None if row is None else _record(row)


def list_machines(connection: sqlite3.Connection, *, include_ended: bool) -> list[MachineRecord]:
    """Return the machines, the newest first."""
    where = "" if include_ended else f" WHERE {_LIVE}"
    return [_record(row) for row in connection.execute(f"{_SELECT}{where} ORDER BY created DESC, key").fetchall()]


def find(connection: sqlite3.Connection, selector: str) -> MachineRecord:
    """Return the machine with this name, key or id, or the only one whose key or id begins so; live ones first.

    Raises:
        StateError: none or several; names those there are.
    """
    text = store_text(selector)
    tests = (
        ("name = :it", {"it": text}),
        ("key = :it OR machine_id = :it", {"it": text}),
        ("substr(key, 1, :n) = :it OR substr(machine_id, 1, :n) = :it", {"it": text, "n": len(selector)}),
    )
    for live in (_LIVE, f"NOT {_LIVE}"):
        for test, values in tests if selector else ():
            rows = connection.execute(f"{_SELECT} WHERE ({test}) AND {live} ORDER BY created DESC", values).fetchall()
            if len(rows) > 1 and live == _LIVE:
                matches = ", ".join(sorted(_record(row).label for row in rows))
                raise StateError(f"{selector!r} fits several machines: {matches}; type more of the one you mean")
            if rows:
                return _record(rows[0])
    known = ", ".join(record.label for record in list_machines(connection, include_ended=False)[:20]) or "none"
    raise StateError(f"no machine has the name or id {selector!r}; live machines: {known}")


def prune(connection: sqlite3.Connection, before: datetime) -> int:
    """Forget ended machines that were not updated since, with their commands and intents; return how many."""
    where = f"NOT {_LIVE} AND updated < ?"
    when = (store_time(before),)
    for table in ("commands", "begun", "intents", "bindings"):
        connection.execute(f"DELETE FROM {table} WHERE key IN (SELECT key FROM machines WHERE {where})", when)  # noqa: S608  # our own names
    return connection.execute(f"DELETE FROM machines WHERE {where}", when).rowcount  # noqa: S608  # our own names


def _describe(record: MachineRecord) -> str:
    """Name a machine so that its holder can be found."""
    name = f"machine {record.label!r}"
    parts = [record.provider, f"id {record.machine_id}" if record.machine_id else f"key {record.key}", record.state]
    if record.owner_pid is not None:
        if is_alive(record.owner_pid, record.owner_start):
            parts.append(f"driven by process {record.owner_pid}")
        else:
            parts.append(f"its process {record.owner_pid} is gone, but it may still hold work")
    return f"{name} ({', '.join(parts)})"


def _values(record: MachineRecord) -> tuple[Any, ...]:
    data = {name: getattr(record, name) for name in _COLUMNS}
    data["created"], data["updated"] = store_time(record.created), store_time(record.updated)
    data["options"] = dump(record.options)
    return tuple(store_text(value) if isinstance(value, str) else value for value in data.values())


def _record(row: tuple[Any, ...]) -> MachineRecord:
    data = dict(zip(_COLUMNS, map(load_text, row), strict=True))
    return MachineRecord(
        **{
            **data,
            "created": load_time(str(data["created"])),
            "updated": load_time(str(data["updated"])),
            "options": json.loads(str(data["options"])),
        }
    )
