"""gitmachine-jsonl: every event is a line, and `gitmachine events` reads them. Time budget: 20 s."""

from __future__ import annotations

import json
import stat
import threading
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from gitmachine.events import EVENTS, CommandStarted, GitWithheld
from gitmachine.outcomes import Withheld
from gitmachine.plugins.host import PluginHost
from gitmachine.state.places import Places
from gitmachine_jsonl import EventLog, log, plugin
from gitmachine_jsonl.command import events

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(command="true", session="s", time=NOW):
    return CommandStarted(machine_id="m", provider="p", repository="r", session=session, command=command, time=time)


def test_it_hooks_into_every_event_there_is():
    host = PluginHost(entry_points=())
    report = host.register(plugin, "jsonl")
    assert set(report.hooks) == {one.hook() for one in EVENTS} | {"gitmachine_register_commands"}


async def test_a_session_is_written_down_line_by_line(session):
    async with session(plugin, "jsonl", env={"API_TOKEN": "s3cret-value"}) as gm:
        await gm.write_file("a", "1")
        await gm.run("echo s3cret-value")
    path = Places.default().state / "events.jsonl"
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    told = [line["event"] for line in lines]
    assert told[:2] == ["cloned", "started"]
    assert told[-1] == "stopped"
    assert {"command_started", "command_finished", "committed", "pushed", "stopping"} <= set(told)
    assert "s3cret-value" not in text
    assert lines[-1]["data"]["receipt"]["pushed"] is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert gm.hook_failures == ()


def test_lines_of_many_threads_stay_whole(tmp_path):
    written = EventLog(tmp_path / "deep" / "events")

    def write(number):
        for _ in range(20):
            written.append(event(f"{number} {'x' * 5000}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list(written.lines())) == 160


def test_a_file_that_grows_too_large_is_moved_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "MAX_BYTES", 1000)
    written = EventLog(tmp_path / "events")
    for number in range(12):
        written.append(event(f"{number}"))
    assert sorted(path.name for path in tmp_path.glob("events*")) == ["events", "events.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("events*"))
    assert [line["data"]["command"] for line in written.lines()][-1] == "11"


def test_what_is_no_line_of_ours_is_left_out(tmp_path):
    written = EventLog(tmp_path / "events")
    written.append(event())
    with written.path.open("ab") as stream:
        stream.write(b'{"cut off\n[1]\n\xff\n')
    odd = (Withheld(path="\udcff", reason="x"),)
    written.append(GitWithheld(machine_id=None, provider="p", repository="r", session="s", files=odd))
    assert [line["event"] for line in written.lines()] == ["command_started", "withheld"]


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("GITMACHINE_EVENTS", str(tmp_path / "events"))
    written = EventLog.default()
    for number in range(3):
        written.append(event(f"echo {number}\x1b[31m", session=f"s{number % 2}"))
    return lambda *args: CliRunner().invoke(events, args)


def test_the_command_prints_what_was_logged(command):
    lines = command().output.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("2026-01-02T03:04:05+00:00 command_started m s0 ")
    assert "\x1b" not in lines[0]
    assert command("--last", "1", "--session", "s0").output.count("echo 2") == 1
    assert command("--event", "pushed").output == ""
    assert [one["session"] for one in json.loads(command("--json").output)["events"]] == ["s0", "s1", "s0"]


def test_a_log_that_is_off_is_said_so_and_written_nowhere(command, monkeypatch, tmp_path):
    monkeypatch.setenv("GITMACHINE_EVENTS", "-")
    plugin.gitmachine_command_started(event())
    assert len((tmp_path / "events").read_text().splitlines()) == 3
    assert command().exit_code == 1
    assert "is off" in command().output


def test_the_command_is_added_to_a_group():
    group = click.Group()
    plugin.gitmachine_register_commands(group)
    assert list(group.commands) == ["events"]
