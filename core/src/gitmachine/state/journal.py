"""The journal: the crash-safe record of machines, sessions and what was done to them.

A SQLite file, so that concurrent processes are safe and a crash at any instant leaves it whole. What controls machines
is on the disk before the call returns; the command log is written in batches behind the commands' backs. A command
that runs when a batch is written is in it too, so that it is known when its process does not live to say how it ended.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gitmachine.errors import StateError
from gitmachine.state import history, rows, schema
from gitmachine.state.records import CommandRecord
from gitmachine.state.worker import Worker

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from gitmachine.state.places import Places
    from gitmachine.state.records import Intent, MachineRecord

__all__ = ["Journal"]

T = TypeVar("T")

CLOSE_SECONDS = schema.BUSY_SECONDS * 2
"""How long closing may take: the last batch may wait for another process."""

MAX_UNWRITTEN = 10_000
"""How many entries of the command log are kept while they cannot be written; the oldest go first."""

_Entry = tuple[str, CommandRecord, int]
"""A machine's key, a command that runs or has ended, and the number that both have."""

_log = logging.getLogger("gitmachine.journal")


class Journal:
    """What this host remembers of its machines.

    The coroutines run on one thread of the journal, in the order they were called. One whose caller is cancelled is
    carried out all the same, so whatever the caller's cleanup asks next comes after it. All of them raise `StateError`
    when the file is damaged, locked, replaced, or was taken over by a newer version.
    """

    def __init__(self, path: Path) -> None:
        """Prepare a journal at a path; `open` and `aopen` make one that is ready."""
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] = (0, 0)
        self._unwritten: deque[_Entry] = deque(maxlen=MAX_UNWRITTEN)
        self._numbers = itertools.count(1)
        self._begun: dict[int, int] = {}
        """The rows of the commands that run and are written, by their numbers."""
        self._worker = Worker("gitmachine-journal", batch=self._write_batch)
        atexit.register(self.close)

    @classmethod
    def open(cls, places: Places) -> Journal:
        """Open the journal of these places, made when it is missing; blocks for a few milliseconds.

        Raises:
            StateError: it is damaged, from a newer version, or cannot be opened.
        """
        journal = cls(places.journal)
        try:
            journal._worker.submit(journal._connect).result()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    async def aopen(cls, places: Places) -> Journal:
        """Open the journal as `open` does, without blocking the loop."""
        journal = cls(places.journal)
        try:
            await journal._worker.call(journal._connect)
        except BaseException:
            await journal.aclose()
            raise
        return journal

    def close(self) -> None:
        """Write what is left of the command log and let go of the file; closing twice is harmless."""
        atexit.unregister(self.close)
        with contextlib.suppress(StateError):  # closed already
            self._worker.submit(self._disconnect)
        if not self._worker.close(CLOSE_SECONDS):
            _log.warning("the journal %s did not close within %g s", self.path, CLOSE_SECONDS)

    async def aclose(self) -> None:
        """Close as `close` does, without blocking the loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def begin_machine(self, record: MachineRecord) -> None:
        """Write a machine down before it is made, and bind its session's branch to it.

        Raises:
            StateError: a live machine holds the branch or the name; `holder` is what it is called.
        """
        await self._write(lambda connection: rows.insert(connection, record))

    async def update_machine(self, key: str, **fields: Any) -> None:
        """Change fields of a machine's record; an ended state frees its branch."""
        if "head" in fields:
            self._worker.submit(self._write_batch)  # what was logged before belongs to the HEAD before
        await self._write(lambda connection: rows.change(connection, key, fields))

    async def end_machine(self, key: str, state: str = "stopped") -> None:
        """Write that a machine is gone (stopped, lost or failed): its branch and its name are free again."""
        await self._write(lambda connection: rows.end(connection, key, state))

    async def machine(self, selector: str) -> MachineRecord:
        """Return the machine with this name, key or provider's id, or the only one whose key or id begins so.

        Raises:
            StateError: none fits, or several; names them.
        """
        return await self._read(lambda connection: rows.find(connection, selector))

    async def machines(self, *, include_ended: bool = False) -> list[MachineRecord]:
        """Return the live machines, or all, the newest first."""
        return await self._read(lambda connection: rows.list_machines(connection, include_ended=include_ended))

    async def bound(self, repository: str, session: str) -> MachineRecord | None:
        """Return the live machine that holds a session's branch, or None."""
        return await self._read(lambda connection: rows.bound(connection, repository, session))

    async def intend(self, key: str, operation: str, detail: Mapping[str, Any] | None = None) -> int:
        """Write what is about to be done to a machine, before it is done; return the intent's id."""
        return await self._write(lambda connection: history.add_intent(connection, key, operation, detail))

    async def done(self, intent_id: int, outcome: Mapping[str, Any] | None = None) -> None:
        """Write how an intended operation ended."""
        await self._write(lambda connection: history.finish_intent(connection, intent_id, outcome))

    async def open_intents(self, key: str | None = None) -> list[Intent]:
        """Return what was begun and not ended, of one machine or of all, the oldest first."""
        return await self._read(lambda connection: history.list_open_intents(connection, key))

    async def intended(self, key: str, operation: str) -> bool:
        """Tell whether an operation was ever begun on a machine, by whichever process."""
        return await self._read(lambda connection: history.was_intended(connection, key, operation))

    def begin_command(self, key: str, command: str, started: datetime) -> int:
        """Note a command that begins; returns at once a number for `log_command`. It is written if it lasts."""
        number = next(self._numbers)
        entry = CommandRecord(command=command, started=started, duration=None, exit_code=None, state="running")
        self._unwritten.append((key, entry, number))
        self._worker.ask_batch()
        return number

    def log_command(self, key: str, entry: CommandRecord, number: int = 0) -> None:
        """Append to the command log; returns at once, the entry is written soon. `flush` waits for it.

        Args:
            key: the machine.
            entry: the command, which has ended.
            number: what `begin_command` returned for it, if it was called.
        """
        self._unwritten.append((key, entry, number))
        self._worker.ask_batch()

    async def flush(self) -> None:
        """Wait until every command logged so far is written."""
        await self._worker.call(self._write_commands)

    async def commands(self, key: str, since: datetime | None = None) -> list[CommandRecord]:
        """Return a machine's commands that started at or after a time, ended or not, the oldest first."""

        def read() -> list[CommandRecord]:
            self._write_commands()
            with schema.translated(self.path):
                return history.list_commands(self._open_connection(), key, since)

        return await self._worker.call(read)

    async def new_commands(self, key: str, after: int) -> list[tuple[int, CommandRecord]]:
        """Return a machine's commands whose end was logged after the one with this number, each with its own."""
        return await self._read(lambda connection: history.new_commands(connection, key, after))

    async def begun(self, key: str) -> list[tuple[int, CommandRecord]]:
        """Return a machine's commands that have not ended as far as is known, each with a number of another series."""
        return await self._read(lambda connection: history.list_begun(connection, key))

    async def prune(self, before: datetime) -> int:
        """Forget ended machines that were not updated since, and what they did; return how many."""
        return await self._write(lambda connection: rows.prune(connection, before))

    # What follows runs on the worker's thread.

    async def _write(self, func: Callable[[sqlite3.Connection], T]) -> T:
        def write() -> T:
            with self._transaction() as connection:
                return func(connection)

        return await self._worker.call(write)

    async def _read(self, func: Callable[[sqlite3.Connection], T]) -> T:
        def read() -> T:
            with schema.translated(self.path):
                return func(self._open_connection())

        return await self._worker.call(read)

    def _connect(self) -> None:
        self._connection = schema.connect(self.path)
        found = self.path.stat()
        self._identity = (found.st_dev, found.st_ino)

    def _disconnect(self) -> None:
        if self._connection is not None:
            try:
                self._write_batch()
            finally:
                self._connection.close()
                self._connection = None

    def _open_connection(self) -> sqlite3.Connection:
        """Return the connection, after a look whether the path still leads to its file."""
        if self._connection is None:
            raise StateError("the journal is closed: open it again")
        try:
            found = os.stat(self.path)  # noqa: PTH116  # called for each operation: Path.stat costs twice as much
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            # Everything written from now on would be in a file that nobody reads.
            raise StateError(f"the journal {str(self.path)!r} was moved or replaced while in use: open it again")
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with schema.translated(self.path):
            connection = self._open_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                schema.check_version(connection, self.path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _write_commands(self) -> None:
        begun: dict[int, _Entry] = {}
        ended: list[_Entry] = []
        while self._unwritten:
            entry = self._unwritten.popleft()
            if entry[1].state == "running":
                begun[entry[2]] = entry
            else:
                begun.pop(entry[2], None)  # it began and ended since the last batch
                ended.append(entry)
        if begun or ended:
            self._write_entries(begun, ended)

    def _write_entries(self, begun: dict[int, _Entry], ended: list[_Entry]) -> None:
        try:
            connection = self._open_connection()
            # History may lose its last tenth of a second in a power cut: no need to wait for the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._transaction():
                    history.end_begun(connection, (self._begun[entry[2]] for entry in ended if entry[2] in self._begun))
                    history.add_commands(connection, (entry[:2] for entry in ended))
                    written = history.add_begun(connection, (entry[:2] for entry in begun.values()))
            finally:
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            self._unwritten.extendleft(reversed([*begun.values(), *ended]))
            raise
        for _, _, number in ended:
            self._begun.pop(number, None)
        self._begun.update(zip(begun, written, strict=True))

    def _write_batch(self) -> None:
        try:
            self._write_commands()
        except StateError as error:
            _log.warning("the command log could not be written: %s", error)
