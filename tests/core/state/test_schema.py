"""The journal's file: made whole, checked when opened, never taken for an empty one when it is damaged.

Time budget: 10 s.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime

import pytest

from gitmachine.errors import StateError
from gitmachine.state import schema
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord, new_key


@pytest.fixture
def places():
    return Places.default().ensure()


@pytest.fixture
async def used(places):
    """A journal with enough in it to have several pages."""
    async with await Journal.aopen(places) as journal:
        for number in range(50):
            await journal.begin_machine(
                MachineRecord(
                    key=new_key(), provider="p", repository="r", session=str(number), options={"x": "y" * 500}
                )
            )
    return places.journal


def edit(path, statement):
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


def test_a_new_journal_is_complete(places):
    connection = schema.connect(places.journal)
    try:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
    assert stat.S_IMODE(places.journal.stat().st_mode) == 0o600


@pytest.mark.parametrize(("wal", "mode"), [(True, "wal"), (False, "delete")])
async def test_there_is_a_write_ahead_log_except_on_network_file_systems(places, monkeypatch, wal, mode):
    for first in (wal, not wal, wal):  # the file may have moved between the two
        monkeypatch.setattr(schema, "supports_wal", lambda _path, answer=first: answer)
        async with await Journal.aopen(places) as journal:
            await journal.begin_machine(MachineRecord(key=new_key(), provider="p", repository=new_key(), session="s"))
            found = await journal._worker.call(lambda: journal._connection.execute("PRAGMA journal_mode").fetchone()[0])
    assert found == mode


def test_the_log_waits_for_another_process_that_makes_it_too(places, monkeypatch):
    schema._create(places.journal)
    other = sqlite3.connect(places.journal, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    try:
        release.start()
        schema.connect(places.journal).close()
        release.join()

        edit(places.journal, "PRAGMA journal_mode = DELETE")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
        with pytest.raises(StateError, match=r"locked by another process for 0\.2 s: end that process"):
            schema.connect(places.journal)
    finally:
        release.join()
        other.close()


async def test_an_older_journal_is_brought_up_to_date_with_all_that_is_in_it(used):
    edit(used, "DROP TABLE begun")
    edit(used, "PRAGMA user_version = 1")
    async with await Journal.aopen(Places.default()) as journal:
        machines = await journal.machines()
        assert len(machines) == 50
        journal.begin_command(machines[0].key, "make", datetime.now(UTC))
        assert [entry.state for entry in await journal.commands(machines[0].key)] == ["running"]


async def test_a_newer_journal_is_refused_and_left_alone(used):
    edit(used, f"PRAGMA user_version = {schema.SCHEMA + 4}")
    before = used.read_bytes()
    with pytest.raises(StateError, match=rf"newer GitMachine \(schema {schema.SCHEMA + 4}, this one knows .*upgrade"):
        await Journal.aopen(Places.default())
    assert used.read_bytes() == before


async def test_a_journal_that_becomes_newer_while_in_use_takes_no_more_writes(used):
    async with await Journal.aopen(Places.default()) as journal:
        edit(used, f"PRAGMA user_version = {schema.SCHEMA + 1}")
        with pytest.raises(StateError, match="newer GitMachine"):
            await journal.begin_machine(MachineRecord(key=new_key(), provider="p", repository="q", session="s"))


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(places, content):
    places.journal.write_bytes(content)
    with pytest.raises(StateError, match=r"is damaged .*move it and the files beside it whose names begin"):
        Journal.open(places)
    assert places.journal.read_bytes() == content


def test_another_programs_database_is_refused(places):
    edit(places.journal, "CREATE TABLE machines (a)")
    with pytest.raises(StateError, match="no journal of GitMachine"):
        Journal.open(places)


async def test_damaged_pages_are_an_error_and_never_an_empty_list(used):
    size = used.stat().st_size
    with used.open("r+b") as file:
        file.seek(4096)
        file.write(b"\0" * (size - 4096))
    with pytest.raises(StateError, match="is damaged"):
        async with await Journal.aopen(Places.default()) as journal:
            await journal.machines()


async def test_a_truncated_journal_is_an_error(used):
    os.truncate(used, 4096 * 2)
    with pytest.raises(StateError, match="is damaged"):
        async with await Journal.aopen(Places.default()) as journal:
            await journal.machines()


async def test_after_moving_a_damaged_journal_aside_there_is_a_fresh_one(used):
    used.write_bytes(b"rubbish" * 1000)
    used.rename(used.with_name("moved"))
    async with await Journal.aopen(Places.default()) as journal:
        assert await journal.machines() == []


async def test_a_log_left_without_its_journal_is_not_replayed_into_the_next(used):
    left = used.with_name(used.name + "-wal")
    left.write_bytes(b"left over")
    used.unlink()
    async with await Journal.aopen(Places.default()) as journal:
        assert await journal.machines() == []
    assert [file.read_bytes() for file in used.parent.glob("journal.db-wal.left-*")] == [b"left over"]


async def test_a_half_made_journal_of_a_killed_process_is_no_obstacle(places):
    places.journal.with_name("journal.db.new").write_bytes(b"half")
    async with await Journal.aopen(places) as journal:
        assert await journal.machines() == []


def test_a_folder_in_the_way_is_an_error_that_names_it(places):
    places.journal.mkdir()
    with pytest.raises(StateError, match=r"journal\.db"):
        Journal.open(places)


def test_readers_of_an_open_journal_are_shut_out_again(places):
    Journal.open(places).close()
    places.journal.chmod(0o644)
    Journal.open(places).close()
    assert stat.S_IMODE(places.journal.stat().st_mode) == 0o600
