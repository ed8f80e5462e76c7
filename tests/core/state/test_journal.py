"""The journal: what it promises to one process, to several at once, and across a kill at any instant.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gitmachine.errors import StateError
from gitmachine.state.journal import Journal
from gitmachine.state.owner import this_process
from gitmachine.state.places import Places
from gitmachine.state.records import CommandRecord, MachineRecord, new_key


@pytest.fixture
def places():
    return Places.default().ensure()


@pytest.fixture
async def journal(places):
    async with await Journal.aopen(places) as opened:
        yield opened


def record(**fields):
    return MachineRecord(**{"key": new_key(), "provider": "local", "repository": "r", "session": "s", **fields})


def command(text="ls", **fields):
    return CommandRecord(**{"command": text, "started": datetime.now(UTC), "duration": 0.5, "exit_code": 0, **fields})


async def test_a_machine_comes_back_as_it_was_written(journal):
    written = record(
        name="gpu",
        machine_id="m-1",
        state="running",
        repo_path="/home/user/r\udcff\nx",
        owner_pid=7,
        owner_start="b-1",
        options={"image": "python", "token": "${TOKEN}", "ports": [1, 2]},
        head="a" * 40,
        tree="b" * 40,
        created=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5))),
    )
    await journal.begin_machine(written)
    assert await journal.machine("gpu") == written
    assert await journal.machines() == [written]
    assert await journal.bound("r", "s") == written


async def test_what_was_written_is_there_after_reopening(places):
    with Journal.open(places) as journal:
        await journal.begin_machine(record(name="one"))
        journal.log_command((await journal.machine("one")).key, command())
    with Journal.open(places) as journal:
        assert len(await journal.commands((await journal.machine("one")).key)) == 1


async def test_a_session_belongs_to_one_live_machine(journal):
    pid, start = this_process()
    first = record(name="first", machine_id="m-1", owner_pid=pid, owner_start=start)
    await journal.begin_machine(first)
    with pytest.raises(StateError, match=r"session 's' of r is held by machine 'first' \(local, id m-1, starting") as e:
        await journal.begin_machine(record())
    assert e.value.holder == "first"
    assert f"driven by process {pid}" in str(e.value)
    await journal.begin_machine(record(session="other"))
    await journal.begin_machine(record(repository="other"))
    assert len(await journal.machines()) == 3


async def test_a_dead_owner_frees_nothing_and_the_message_says_how_to_go_on(journal):
    await journal.begin_machine(record(owner_pid=os.getpid(), owner_start="another-boot-1", state="running"))
    with pytest.raises(StateError, match=r"is gone, but it may still hold work.*connect to it, stop it, or let gc"):
        await journal.begin_machine(record())


@pytest.mark.parametrize("state", ["stopped", "lost", "failed"])
async def test_an_ended_machine_frees_its_session_and_name(journal, state):
    first = record(name="one")
    await journal.begin_machine(first)
    await journal.end_machine(first.key, state)
    assert await journal.bound("r", "s") is None
    second = record(name="one")
    await journal.begin_machine(second)
    assert (await journal.machine("one")).key == second.key
    assert [found.key for found in await journal.machines()] == [second.key]
    assert len(await journal.machines(include_ended=True)) == 2


async def test_an_ended_state_written_as_an_update_frees_the_session_too(journal):
    first = record()
    await journal.begin_machine(first)
    await journal.update_machine(first.key, state="lost")
    await journal.begin_machine(record())


async def test_a_name_belongs_to_one_live_machine(journal):
    await journal.begin_machine(record(name="gpu"))
    with pytest.raises(StateError, match="the name 'gpu' belongs to machine 'gpu'"):
        await journal.begin_machine(record(name="gpu", session="other"))
    assert await journal.bound("r", "other") is None


async def test_a_key_is_used_once(journal):
    await journal.begin_machine(record(key="k"))
    with pytest.raises(StateError, match="the key 'k'"):
        await journal.begin_machine(record(key="k", session="other"))


async def test_fields_are_changed_and_the_time_of_change_is_kept(journal):
    first = record()
    await journal.begin_machine(first)
    await journal.update_machine(first.key, state="running", machine_id="m-9", head="c" * 40)
    found = await journal.machine(first.key)
    assert (found.state, found.machine_id, found.head) == ("running", "m-9", "c" * 40)
    assert found.updated > first.updated
    assert found.created == first.created


async def test_wrong_changes_are_refused_and_change_nothing(journal):
    first = record()
    await journal.begin_machine(first)
    with pytest.raises(TypeError, match="repository"):
        await journal.update_machine(first.key, repository="x")
    with pytest.raises(ValueError, match="unknown machine state 'tired'"):
        await journal.update_machine(first.key, state="tired")
    with pytest.raises(ValueError, match="a machine ends as"):
        await journal.end_machine(first.key, "running")
    with pytest.raises(StateError, match="no machine with the key 'nobody'"):
        await journal.update_machine("nobody", head="x")
    assert await journal.machine(first.key) == first


async def test_a_machine_is_found_by_name_key_id_or_prefix(journal):
    await journal.begin_machine(record(key="aaaa1111", name="web", machine_id="sandbox-77", session="1"))
    await journal.begin_machine(record(key="aaaa2222", machine_id="sandbox-88", session="2"))
    await journal.begin_machine(record(key="web99999", session="3"))
    for selector in ("web", "aaaa1111", "sandbox-77", "aaaa1", "sandbox-7"):
        assert (await journal.machine(selector)).key == "aaaa1111"
    with pytest.raises(StateError, match="'aaaa' fits several machines: aaaa2222, web"):
        await journal.machine("aaaa")
    with pytest.raises(StateError, match=r"no machine has the name or id 'we%'; live machines: .*web"):
        await journal.machine("we%")
    with pytest.raises(StateError, match="no machine has the name or id ''"):
        await journal.machine("")


async def test_a_live_machine_is_preferred_to_an_ended_one(journal):
    old, new = record(name="web"), record(name="web")
    await journal.begin_machine(old)
    await journal.end_machine(old.key)
    assert (await journal.machine("web")).key == old.key
    await journal.begin_machine(new)
    assert (await journal.machine("web")).key == new.key
    assert (await journal.machine(old.key)).key == old.key


async def test_an_intent_is_open_until_it_is_done(journal):
    first = record()
    await journal.begin_machine(first)
    push = await journal.intend(first.key, "push", {"branch": "s", "sha": "a" * 40})
    stop = await journal.intend(first.key, "stop")
    assert [(i.id, i.operation, i.detail) for i in await journal.open_intents(first.key)] == [
        (push, "push", {"branch": "s", "sha": "a" * 40}),
        (stop, "stop", {}),
    ]
    await journal.done(push, {"remote_sha": "a" * 40})
    assert [intent.id for intent in await journal.open_intents()] == [stop]
    await journal.end_machine(first.key)
    assert await journal.open_intents() == []
    with pytest.raises(StateError, match="no machine with the key"):
        await journal.intend("nobody", "push")


async def test_the_command_log_keeps_order_and_odd_text(journal):
    first = record()
    await journal.begin_machine(first)
    texts = [f"echo {number}" for number in range(500)] + ["printf '\udcff\u20ac\n'", "\ud800", ""]
    for text in texts:
        journal.log_command(first.key, command(text))
    found = await journal.commands(first.key)
    assert [entry.command for entry in found] == [*texts[:-2], "\\ud800", ""]
    later = found[100].started
    assert [entry for entry in await journal.commands(first.key, later) if entry.started < later] == []
    assert await journal.commands("other") == []


async def test_a_logged_command_is_written_without_anybody_asking(journal, places):
    first = record()
    await journal.begin_machine(first)
    journal.log_command(first.key, command(exit_code=None, timed_out=True, head="d" * 40))
    async with asyncio.timeout(30):
        while True:
            async with await Journal.aopen(places) as other:
                found = await other.commands(first.key)
            if found:
                break
            await asyncio.sleep(0.02)
    assert (found[0].exit_code, found[0].timed_out, found[0].head) == (None, True, "d" * 40)


async def test_a_command_that_lasts_is_written_before_it_has_ended(journal, places):
    first = record(head="a" * 40)
    await journal.begin_machine(first)
    number = journal.begin_command(first.key, "make", datetime.now(UTC))
    async with asyncio.timeout(30), await Journal.aopen(places) as other:
        while not (found := await other.commands(first.key)):
            await asyncio.sleep(0.02)
        assert (found[0].command, found[0].state, found[0].head) == ("make", "running", "a" * 40)
        assert found[0].exit_code is None
        journal.log_command(first.key, command("make", exit_code=3), number)
        await journal.flush()
        assert [(one.command, one.state, one.exit_code) for one in await other.commands(first.key)] == [
            ("make", "ended", 3)
        ]
        assert await other.begun(first.key) == []


async def test_a_command_that_does_not_last_is_written_once(journal):
    first = record()
    await journal.begin_machine(first)
    written = []
    await journal._worker.call(lambda: journal._connection.set_trace_callback(written.append))
    for text in ("one", "two"):
        journal.log_command(first.key, command(text), journal.begin_command(first.key, text, datetime.now(UTC)))
    await journal.flush()
    assert not [statement for statement in written if "begun" in statement and not statement.startswith("--")]
    assert [entry.command for entry in await journal.commands(first.key)] == ["one", "two"]


async def test_commands_come_in_the_order_of_their_start_whether_they_ended_or_not(journal):
    first = record()
    await journal.begin_machine(first)
    began = datetime.now(UTC) - timedelta(seconds=5)
    journal.begin_command(first.key, "long", began)
    await journal.flush()
    journal.log_command(first.key, command("before", started=began - timedelta(seconds=1)))
    journal.log_command(first.key, command("after", started=began + timedelta(seconds=1)))
    found = await journal.commands(first.key)
    assert [entry.command for entry in found] == ["before", "long", "after"]
    assert found[1].duration >= 5
    assert [entry.command for entry in await journal.commands(first.key, began)] == ["long", "after"]


async def test_a_command_that_ends_while_another_process_has_the_journal_is_not_told_twice(places, monkeypatch):
    monkeypatch.setattr("gitmachine.state.schema.BUSY_SECONDS", 0.05)
    async with await Journal.aopen(places) as journal:
        first = record()
        await journal.begin_machine(first)
        number = journal.begin_command(first.key, "make", datetime.now(UTC))
        await journal.flush()
        other = sqlite3.connect(places.journal, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            journal.log_command(first.key, command("make"), number)
            with pytest.raises(StateError, match="locked by another process"):
                await journal.flush()
            other.execute("ROLLBACK")
        finally:
            other.close()
        assert [entry.state for entry in await journal.commands(first.key)] == ["ended"]


async def test_ended_machines_are_forgotten_with_what_they_did(journal):
    old, live = record(), record(session="other")
    await journal.begin_machine(old)
    await journal.begin_machine(live)
    await journal.intend(old.key, "push")
    journal.log_command(old.key, command())
    journal.begin_command(old.key, "make", datetime.now(UTC))
    await journal.flush()
    await journal.end_machine(old.key)
    assert await journal.prune(datetime.now(UTC) - timedelta(days=1)) == 0
    assert await journal.prune(datetime.now(UTC) + timedelta(days=1)) == 1
    assert [found.key for found in await journal.machines(include_ended=True)] == [live.key]
    assert await journal.commands(old.key) == []


async def test_a_cancelled_write_is_carried_out_before_what_is_asked_next(journal):
    first = record()
    task = asyncio.ensure_future(journal.begin_machine(first))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await journal.end_machine(first.key, "failed")
    assert (await journal.machine(first.key)).state == "failed"


async def test_a_closed_journal_says_so(places):
    journal = await Journal.aopen(places)
    await journal.aclose()
    await journal.aclose()
    journal.close()
    with pytest.raises(StateError, match="closed"):
        await journal.machines()


async def test_a_journal_that_was_replaced_while_in_use_takes_no_more_writes(places):
    async with await Journal.aopen(places) as journal:
        await journal.begin_machine(record())
        places.journal.rename(places.journal.with_suffix(".old"))
        with pytest.raises(StateError, match="moved or replaced"):
            await journal.machines()
        with pytest.raises(StateError, match="moved or replaced"):
            await journal.begin_machine(record(session="other"))


async def test_nobody_else_can_read_it(journal, places):
    await journal.begin_machine(record())
    for file in places.journal.parent.glob("journal.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(places.journal.parent.stat().st_mode) == 0o700


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import CommandRecord, MachineRecord

async def main(who, rounds):
    async with await Journal.aopen(Places.default()) as journal:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(rounds):
            key = f"{who}-{number}"
            await journal.begin_machine(MachineRecord(key=key, provider="p", repository=who, session=str(number)))
            await journal.update_machine(key, state="running", head=str(number))
            intent = await journal.intend(key, "push", {"n": number})
            journal.log_command(
                key, CommandRecord(command="c", started=datetime.now(UTC), duration=0.0, exit_code=number)
            )
            if number % 2:
                await journal.done(intent)
                await journal.end_machine(key)
            print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def writer(who: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, who, str(rounds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def test_several_processes_write_at_once_and_nothing_is_lost(places):
    rounds, names = 40, ("a", "b", "c", "d")
    children = [writer(name, rounds) for name in names]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            child.communicate(timeout=100)
            assert child.returncode == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()
    async with await Journal.aopen(places) as journal:
        found = {machine.key: machine for machine in await journal.machines(include_ended=True)}
        assert set(found) == {f"{name}-{number}" for name in names for number in range(rounds)}
        for name in names:
            for number in range(rounds):
                machine = found[f"{name}-{number}"]
                assert machine.state == ("stopped" if number % 2 else "running")
                assert machine.head == str(number)
                assert [entry.exit_code for entry in await journal.commands(machine.key)] == [number]


async def test_several_processes_make_the_journal_at_once(places):
    for _ in range(3):
        for file in places.journal.parent.glob("journal.db*"):
            file.unlink()
        children = [writer(name, 1) for name in ("a", "b", "c")]
        for child in children:
            out, _ = await asyncio.to_thread(child.communicate, "go\n", timeout=100)
            assert out == "ready\n0\n"
        async with await Journal.aopen(places) as journal:
            assert len(await journal.machines()) == 3


async def test_two_processes_cannot_both_bind_a_session(places):
    script = WRITER.replace("repository=who", "repository='same'").replace("print(number", "print('won'")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, name, "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c", "d")
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    outcomes = [child.communicate(timeout=100) for child in children]
    assert sorted("won" in out for out, _ in outcomes) == [False, False, False, True]
    assert all("is held by machine" in err for out, err in outcomes if "won" not in out)


@pytest.mark.parametrize("acknowledged", [0, 1, 5, 17])
async def test_a_kill_at_any_instant_loses_nothing_that_was_acknowledged(places, acknowledged):
    child = writer("victim", 100000)
    try:
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        for number in range(acknowledged):
            assert child.stdout.readline() == f"{number}\n"
    finally:
        child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    last = acknowledged - 1 + rest.count("\n")
    async with await Journal.aopen(places) as journal:
        found = {machine.key: machine for machine in await journal.machines(include_ended=True)}
        for number in range(last + 1):
            assert found[f"victim-{number}"].state == ("stopped" if number % 2 else "running")
        assert len(found) <= last + 2
        live = [machine for machine in found.values() if not machine.ended]
        for machine in live:
            assert (await journal.bound(machine.repository, machine.session)).key == machine.key
        await journal.begin_machine(record())
    connection = sqlite3.connect(places.journal)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()


async def test_a_program_that_forgot_to_close_still_writes_its_command_log(places):
    script = WRITER.replace("async with await Journal.aopen(Places.default()) as journal:", "if True:").replace(
        "async def main(who, rounds):",
        "async def main(who, rounds):\n    journal = await Journal.aopen(Places.default())",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "w", "1"], input="go\n", capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    async with await Journal.aopen(places) as journal:
        assert len(await journal.commands("w-0")) == 1


async def test_a_write_waits_for_another_process_and_gives_up_with_a_message(places, monkeypatch):
    monkeypatch.setattr("gitmachine.state.schema.BUSY_SECONDS", 0.2)
    async with await Journal.aopen(places) as journal:
        other = sqlite3.connect(places.journal, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateError, match="locked by another process"):
                await journal.begin_machine(record())
            assert await journal.machines() == []
            other.execute("ROLLBACK")
            await journal.begin_machine(record())
        finally:
            other.close()


async def test_the_command_log_outlasts_a_lock_of_another_process(places, monkeypatch, caplog):
    monkeypatch.setattr("gitmachine.state.schema.BUSY_SECONDS", 0.05)
    async with await Journal.aopen(places) as journal:
        first = record()
        await journal.begin_machine(first)
        other = sqlite3.connect(places.journal, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            journal.log_command(first.key, command())
            with pytest.raises(StateError, match="locked by another process"):
                await journal.flush()
            other.execute("ROLLBACK")
        finally:
            other.close()
        assert len(await journal.commands(first.key)) == 1


async def test_control_rows_are_synchronised_and_the_log_is_not(journal):
    def pragma():
        return journal._connection.execute("PRAGMA synchronous").fetchone()[0]

    first = record()
    await journal.begin_machine(first)
    assert await journal._worker.call(pragma) == 2
    journal.log_command(first.key, command())
    await journal.flush()
    assert await journal._worker.call(pragma) == 2


async def test_options_that_json_does_not_have_become_text(journal):
    first = record(options={"when": timedelta(seconds=1), "path": places_path()})
    await journal.begin_machine(first)
    assert json.dumps(dict((await journal.machine(first.key)).options))


def places_path():
    return Places.default().state


async def test_logging_costs_the_caller_no_disk(journal):
    first = record()
    await journal.begin_machine(first)
    blocked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def block():
        loop.call_soon_threadsafe(blocked.set)
        time.sleep(0.3)

    busy = asyncio.ensure_future(journal._worker.call(block))
    await blocked.wait()
    for _ in range(100):
        journal.log_command(first.key, command())
    assert not busy.done()
    await busy
    assert len(await journal.commands(first.key)) == 100
