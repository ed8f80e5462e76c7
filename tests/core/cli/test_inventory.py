"""What this host knows of its machines, from the journal alone. Time budget: 5 s."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from gitmachine.state.journal import Journal
from gitmachine.state.owner import this_process
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord


def keep(*records: dict[str, Any], ended: str | None = None) -> None:
    """Write machines that run into the journal."""

    async def write() -> None:
        async with await Journal.aopen(Places.default().ensure()) as journal:
            for number, fields in enumerate(records):
                known: dict[str, Any] = {
                    "key": f"abc{number:013x}",
                    "machine_id": f"f00{number}",
                    "provider": "local",
                    "repository": f"file:///r{number}",
                    "session": "s",
                    "state": "running",
                }
                await journal.begin_machine(MachineRecord(**{**known, **fields}))
            if ended is not None:
                await journal.end_machine(ended)

    asyncio.run(write())


def test_nothing_is_told_as_that(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert capfd.readouterr() == ("", "gitmachine: no machine is alive (--all lists those that have ended)\n")
    assert main(["ls", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"machines": [], "recovered": []}


def test_machines_and_whether_anybody_drives_them(capfd: pytest.CaptureFixture[str]) -> None:
    pid, started = this_process()
    keep(
        {"name": "driven", "owner_pid": pid, "owner_start": started},
        {"name": "left on purpose"},
        {"name": "orphan", "owner_pid": 2**22 - 1, "owner_start": "1"},
        {"name": "\x1b[31mred"},
        ended="abc" + "1".zfill(13),
    )
    assert main(["ls"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    header, *rows = out.splitlines()
    assert header.split() == ["NAME", "ID", "PROVIDER", "STATE", "SESSION", "REPOSITORY", "AGE", "OWNER"]
    assert len(rows) == 3
    assert any(row.startswith("driven") and row.endswith(str(os.getpid())) for row in rows)
    assert any(row.startswith("orphan") and row.endswith("(gone)") for row in rows)
    assert main(["ls", "--all", "--json"]) == 0
    machines = {one["name"]: one for one in json.loads(capfd.readouterr().out)["machines"]}
    assert machines["left on purpose"]["state"] == "stopped"
    assert [machines[name]["orphan"] for name in ("driven", "left on purpose", "orphan")] == [False, False, True]
    assert machines["driven"]["owner"] == {"pid": pid, "alive": True}


def test_the_beginning_of_an_id_must_fit_one_machine_only(capfd: pytest.CaptureFixture[str]) -> None:
    keep({"name": "one"}, {"name": "two"})
    for args in (["show", "abc"], ["show", "f0"], ["logs", "abc"], ["status", "abc"], ["stop", "f00"]):
        assert main(args) == 1
        assert "fits several machines: one, two; type more of the one you mean" in capfd.readouterr().err
    assert main(["exec", "abc", "--", "true"]) == 125
    capfd.readouterr()
    assert main(["show", "f001", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["name"], found["commands"], found["last_command"], found["half_done"]) == ("two", 0, None, [])
    assert main(["show", "f001"]) == 0
    assert "name: two" in capfd.readouterr().out.splitlines()


def test_a_broken_configuration_prevents_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    keep({"name": "one"})
    (tmp_path / "gitmachine.toml").write_text("provder = 'x'\n")
    monkeypatch.chdir(tmp_path)
    assert main(["ls"]) == 0
    out, err = capfd.readouterr()
    assert "one" in out
    assert "what is half done was not looked at" in err


def test_a_damaged_journal_is_told_in_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    places = Places.default().ensure()
    places.journal.write_bytes(b"not a database" * 1000)
    for args in (["ls"], ["show", "a"], ["logs", "a"], ["gc"]):
        assert main(args) == 1
        out, err = capfd.readouterr()
        assert (out, "Traceback" in err, "journal" in err) == ("", False, True)
