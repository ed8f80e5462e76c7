"""The journal's file: how it is made, opened, checked and upgraded, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from gitmachine.errors import StateError
from gitmachine.state.filesystems import supports_wal
from gitmachine.state.places import make_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BUSY_SECONDS", "SCHEMA", "check_version", "connect", "translated"]

BUSY_SECONDS = 10.0
"""How long a write waits for another process's write."""

APPLICATION_ID = 0x474D4A31  # "GMJ1"

_MIGRATIONS = (
    """
    CREATE TABLE machines (
        key TEXT PRIMARY KEY, provider TEXT NOT NULL, repository TEXT NOT NULL, session TEXT NOT NULL,
        state TEXT NOT NULL, name TEXT, machine_id TEXT, repo_path TEXT, owner_pid INTEGER, owner_start TEXT,
        created TEXT NOT NULL, updated TEXT NOT NULL, options TEXT NOT NULL, head TEXT, tree TEXT
    );
    CREATE TABLE bindings (
        repository TEXT NOT NULL, session TEXT NOT NULL, key TEXT NOT NULL UNIQUE REFERENCES machines (key),
        PRIMARY KEY (repository, session)
    );
    CREATE TABLE intents (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL REFERENCES machines (key), operation TEXT NOT NULL,
        detail TEXT NOT NULL, started TEXT NOT NULL, outcome TEXT, finished TEXT
    );
    CREATE INDEX open_intents ON intents (key) WHERE finished IS NULL;
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, command TEXT NOT NULL, started TEXT NOT NULL, duration REAL NOT NULL,
        exit_code INTEGER, timed_out INTEGER NOT NULL, head TEXT
    );
    CREATE INDEX commands_of_machine ON commands (key, started);
    """,
    """
    CREATE TABLE begun (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, command TEXT NOT NULL, started TEXT NOT NULL,
        head TEXT, pid INTEGER NOT NULL, pid_start TEXT
    );
    CREATE INDEX begun_of_machine ON begun (key);
    """,
)
SCHEMA = len(_MIGRATIONS)
"""The version of the schema that this code writes, kept in the file's user_version."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the journal, making it when it is missing; the connection belongs to the calling thread.

    Raises:
        StateError: it is damaged, no journal, from a newer version, or cannot be opened.
    """
    with translated(path):
        make_private(path.parent)
        if not path.exists():
            _create(path)
        if path.stat().st_size == 0:
            # SQLite takes an empty file for an empty database; ours are never empty, see `_create`.
            raise StateError(_damaged(path, "the file is empty"))
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the file; raise StateError when a newer GitMachine wrote it."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise StateError(
            f"the journal {str(path)!r} was written by a newer GitMachine (schema {version}, this one knows {SCHEMA}): "
            "upgrade gitmachine-core, or set GITMACHINE_HOME to another folder"
        )
    return version


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise SQLite's errors, and the file system's, as StateErrors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(_explain(error, path)) from error
    except OSError as error:
        raise StateError(
            f"cannot use the journal {str(path)!r}: {error.strerror or error}; "
            "make its folder writable, or set GITMACHINE_HOME to one that is"
        ) from error


def _create(path: Path) -> None:
    """Make a complete journal under a name of its own, then move it into place: nobody ever sees half of one."""
    with _creating(path):
        if path.exists():
            return
        for sidecar in _sidecars(path):
            # A write-ahead log without its database: SQLite would replay it into the new one.
            with contextlib.suppress(FileNotFoundError):
                sidecar.rename(sidecar.with_name(f"{sidecar.name}.left-{time.time_ns()}"))
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(connection, fresh)
        finally:
            connection.close()
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _creating(path: Path) -> Iterator[None]:
    """Keep every other process from making this journal; the kernel releases the lock of a dead one."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StateError(
                        f"another process has been making the journal {str(path)!r} for {BUSY_SECONDS:g} s: "
                        "end that process, then try again"
                    ) from error
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StateError(_damaged(path, "it is a database, but no journal of GitMachine"))
    if path.stat().st_uid == os.geteuid():
        path.chmod(0o600)
    if check_version(connection, path) < SCHEMA:
        _migrate(connection, path)
    mode = "WAL" if supports_wal(path) else "DELETE"
    _switch(connection, mode)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("SELECT count(*) FROM machines, bindings, intents WHERE 0").fetchone()


def _switch(connection: sqlite3.Connection, mode: str) -> None:
    """Give the file its journal mode, which it keeps.

    SQLite's own waiting does not reach a change of the mode: it reads first, and a reader that wants to write while
    another process does fails at once. The other may be one that opens the new journal too.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0].upper() != mode:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited for the lock.
        for number, script in enumerate(_MIGRATIONS, start=1):
            if number > check_version(connection, path):
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _sidecars(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))


def _explain(error: sqlite3.Error, path: Path) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(path, str(error))
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return (
            f"the journal {str(path)!r} has been locked by another process for {BUSY_SECONDS:g} s: "
            "end that process, then try again"
        )
    if primary == sqlite3.SQLITE_FULL:
        return f"the journal {str(path)!r} cannot grow, the disk is full: make room, then try again"
    if primary in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR}:
        return (
            f"cannot use the journal {str(path)!r} ({error}): check who may read and write it and that its disk works, "
            "or set GITMACHINE_HOME to another folder"
        )
    return _damaged(path, str(error))


def _damaged(path: Path, what: str) -> str:
    return (
        f"the journal {str(path)!r} is damaged ({what}): move it and the files beside it whose names begin with "
        f"{path.name!r} to another folder, then try again; machines it listed must then be found at their providers, "
        f"and the work saved on this host stays in {str(path.parent / 'sessions')!r}"
    )
