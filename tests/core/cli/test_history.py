"""Commits with the commands behind them, and the history of commands. Time budget: 10 s."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gitmachine.cli import main
from gitmachine.cli.history import steps
from gitmachine.git.model import Commit
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import CommandRecord, MachineRecord
from support.commandline import Started

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def commit(sha: str, seconds: int) -> Commit:
    return Commit(
        sha=sha, author_name="A", author_email="a@example.org", time=NOON + timedelta(seconds=seconds), subject=sha
    )


def command(text: str, seconds: float, head: str | None = None) -> CommandRecord:
    return CommandRecord(command=text, started=NOON + timedelta(seconds=seconds), duration=0.1, exit_code=0, head=head)


def told(commits: list[Commit], commands: list[CommandRecord], start: str | None) -> list[tuple[str | None, list[str]]]:
    return [
        (step.commit.sha if step.commit else None, [one.command for one in step.commands])
        for step in steps(commits, commands, start)
    ]


def test_a_command_belongs_to_the_commit_that_came_after_it() -> None:
    commits = [commit("two", 20), commit("one", 10), commit("start", 0)]
    commands = [command("a", 5), command("b", 9.9), command("c", 15), command("d", 25)]
    assert told(commits, commands, "start") == [
        (None, ["d"]),
        ("two", ["c"]),
        ("one", ["a", "b"]),
        ("start", []),
    ]


def test_within_a_second_the_head_of_that_time_decides() -> None:
    commits = [commit("two", 10), commit("one", 10), commit("start", 0)]
    commands = [command("a", 10.2, "start"), command("b", 10.4, "one"), command("c", 10.6, "two")]
    assert told(commits, commands, "start") == [(None, ["c"]), ("two", ["b"]), ("one", ["a"]), ("start", [])]


def test_what_is_older_than_the_session_has_no_commands_whatever_its_time() -> None:
    commits = [commit("start", 1000), commit("older", 900)]
    assert told(commits, [command("a", 5)], "start") == [(None, ["a"]), ("start", []), ("older", [])]


def test_a_commit_that_nobody_was_told_of_is_found_by_its_time() -> None:
    commits = [commit("theirs", 12), commit("start", 0)]
    assert told(commits, [command("git commit", 11.5, "start"), command("b", 13, "start")], "start") == [
        (None, ["b"]),
        ("theirs", ["git commit"]),
        ("start", []),
    ]
    assert told([], [command("a", 1)], None) == [(None, ["a"])]
    assert told([], [], None) == []


def record(**fields: Any) -> MachineRecord:
    return MachineRecord(
        **{"key": "0" * 16, "provider": "local", "repository": "r", "session": "s", "name": "a", **fields}
    )


def keep(*entries: CommandRecord, end: bool = False, **fields: Any) -> None:
    """Write a machine and its commands into the journal, as another process would."""

    async def write() -> None:
        async with await Journal.aopen(Places.default().ensure()) as journal:
            if "new" in fields:
                await journal.begin_machine(record())
            for entry in entries:
                journal.log_command("0" * 16, entry)
            await journal.flush()
            if end:
                await journal.end_machine("0" * 16)

    asyncio.run(write())


def test_every_command_on_a_line_of_its_own_and_as_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    keep(command("echo 'a\nb' \x1b[31m", 0), command("second", 1), end=True, new=True)
    assert main(["logs", "a"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert first == "2026-01-01 12:00:00Z  0.1s  0  echo 'a\\nb' \ufffd[31m"
    assert second.endswith("second")
    assert main(["logs", "a", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["commands"]
    assert [one["command"] for one in found] == ["echo 'a\nb' \x1b[31m", "second"]
    assert (found[1]["started"], found[1]["exit_code"]) == ("2026-01-01T12:00:01+00:00", 0)
    assert main(["logs", "b"]) == 1


def test_new_commands_are_followed_until_the_machine_ends(begin: Callable[..., Started]) -> None:
    keep(command("first", 5), new=True)
    run = begin("logs", "a", "-f", "--json")
    assert json.loads(run.read_line())["command"] == "first"
    keep(command("began earlier", 1))
    assert json.loads(run.read_line())["command"] == "began earlier"
    keep(command("last", 9), end=True)
    assert run.end_code() == 0
    assert [json.loads(line)["command"] for line in run.rest.splitlines()] == ["last"]


def begin_elsewhere(text: str, *, key: str = "0" * 16) -> None:
    """Write into the journal that a command began, as a process that was killed at once would."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from datetime import UTC, datetime\n"
        "from gitmachine.state.journal import Journal\n"
        "from gitmachine.state.places import Places\n"
        "async def main():\n"
        "    async with await Journal.aopen(Places.default()) as journal:\n"
        "        journal.begin_command(sys.argv[1], sys.argv[2], datetime.now(UTC))\n"
        "        await journal.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, key, text], capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_command_whose_process_was_killed_is_told_as_interrupted(capfd: pytest.CaptureFixture[str]) -> None:
    keep(command("first", 0), new=True)
    begin_elsewhere("make all")
    assert main(["logs", "a"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert first == "2026-01-01 12:00:00Z  0.1s  0  first"
    assert second.endswith("Z  ?  interrupted  make all")
    assert main(["logs", "a", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["commands"]
    assert [(one["command"], one["state"], one["duration"]) for one in found] == [
        ("first", "ended", 0.1),
        ("make all", "interrupted", None),
    ]
    assert main(["show", "a", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["last_command"]["state"] == "interrupted"


def test_an_interrupted_command_is_followed_too_and_told_once(begin: Callable[..., Started]) -> None:
    keep(new=True)
    run = begin("logs", "a", "-f", "--json")
    begin_elsewhere("one")
    assert json.loads(run.read_line())["command"] == "one"
    begin_elsewhere("two")
    found = json.loads(run.read_line())
    assert (found["command"], found["state"]) == ("two", "interrupted")
    keep(command("last", 9), end=True)
    assert run.end_code() == 0
    assert [json.loads(line)["command"] for line in run.rest.splitlines()] == ["last"]


def test_ctrl_c_ends_the_following(begin: Callable[..., Started]) -> None:
    keep(command("first", 5), new=True)
    run = begin("logs", "a", "-f")
    assert "first" in run.read_line()
    run.signal(signal.SIGINT)
    assert run.end_code() == 130
