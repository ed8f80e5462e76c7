"""Shells complete commands, options and the names of machines. Time budget: 10 s."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from gitmachine.cli.completion import machine_names
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord


@pytest.fixture
def machines() -> None:
    """Machines: two live ones with names, one without, and one that has ended."""

    async def write() -> None:
        async with await Journal.aopen(Places.default().ensure()) as journal:
            for number, name in enumerate(("web", "worker", None, "wasted")):
                known = MachineRecord(
                    key=f"{number:016x}", provider="p", repository=f"r{number}", session="s", name=name, machine_id="m9"
                )
                await journal.begin_machine(known)
            await journal.end_machine(f"{3:016x}")

    asyncio.run(write())


def complete(home: Any, words: str, index: int) -> list[str]:
    """Ask a process of its own what fits, as a shell does."""
    extra = {"_GITMACHINE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    done = subprocess.run(
        [sys.executable, "-m", "gitmachine"],
        env=home.environment(extra),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("machines")
def test_commands_options_and_names_are_offered(home: Any) -> None:
    assert complete(home, "gitmachine sto", 1) == ["stop"]
    assert complete(home, "gitmachine stop --fo", 2) == ["--force"]
    assert sorted(complete(home, "gitmachine exec w", 2)) == ["web", "worker"]


@pytest.mark.usefixtures("machines")
def test_a_machine_without_a_name_is_offered_by_its_id_and_one_that_has_ended_is_not() -> None:
    assert sorted(item.value for item in machine_names("")) == ["m9", "web", "worker"]
    assert [item.value for item in machine_names("00000")] != []
    assert [item.value for item in machine_names("was")] == []


def test_without_a_journal_or_with_a_broken_one_nothing_is_offered_and_nothing_is_made() -> None:
    places = Places.default()
    assert machine_names("") == []
    assert not places.state.exists()
    places.ensure().journal.write_bytes(b"no database" * 1000)
    assert machine_names("") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out, err = capfd.readouterr()
    assert f"{shell}_complete" in out
    assert err == ""
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=out, text=True, check=True, timeout=60, capture_output=True)


@pytest.mark.requires("bash")
@pytest.mark.usefixtures("machines")
def test_bash_itself_completes_with_it(home: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capfd.readouterr().out
    script += "\nCOMP_WORDS=(gitmachine pause wo)\nCOMP_CWORD=2\n_gitmachine_completion gitmachine wo pause\n"
    script += "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"],
        input=script,
        env=home.environment({"PATH": path}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["worker"]
