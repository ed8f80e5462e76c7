"""The kit as an author of a provider meets it: ten lines, one option, with and without other plugins.

Time budget: 20 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFTEST = 'pytest_plugins = ["gitmachine.testing.plugin"]\n'
TEN_LINES = """\
from gitmachine.testing import FakeMachine, MachineConformance


class TestMine(MachineConformance):
    async def make_machine(self):
        return FakeMachine()
"""
WITHOUT = ("-p", "no:asyncio", "-p", "no:anyio")
SOME = "exit_codes or streams or life_close or can_spawn"


def run(
    folder: Path, *options: str, module: str = TEN_LINES, without: tuple[str, ...] = WITHOUT
) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_mine.py").write_text(module)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without, "-k", SOME, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def outcomes(machine: dict[str, Any]) -> dict[str, str]:
    return {found["id"]: found["outcome"] for found in machine["behaviours"]}


def test_ten_lines_are_enough_and_no_plugin_for_coroutines_is_needed(tmp_path: Path):
    done = run(tmp_path, "-p", "no:xdist", "--conformance-report", "out/r.json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "r.json").read_text())
    assert report["format"] == 1
    assert report["time"].endswith("+00:00")
    assert {"gitmachine", "python", "platform"} <= report.keys()
    (machine,) = report["machines"]
    assert (machine["provider"], machine["conforms"]) == ("fake", True)
    assert machine["version"] == report["gitmachine"]
    assert "spawn" in machine["capabilities"]
    assert outcomes(machine) == {
        "life-close": "skipped",
        "exit-codes": "passed",
        "streams": "passed",
        "can-spawn": "passed",
    }
    assert machine["counts"] == {"passed": 3, "failed": 0, "skipped": 1, "limit": 0}
    close = next(found for found in machine["behaviours"] if found["id"] == "life-close")
    assert close["reason"] == "TestMine has no connect"
    assert "fake (TestMine): 3 passed, 1 skipped" in done.stdout


def test_with_the_plugin_for_asyncio_in_auto_mode_it_is_the_same(tmp_path: Path):
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    done = run(tmp_path, "-p", "no:xdist", *options, without=())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout


def test_the_report_is_whole_when_the_tests_are_spread_over_processes(tmp_path: Path):
    done = run(tmp_path, "-n", "2", "--conformance-report", "r.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (machine,) = json.loads((tmp_path / "r.json").read_text())["machines"]
    assert set(outcomes(machine)) == {"life-close", "exit-codes", "streams", "can-spawn"}
    assert machine["capabilities"]


def test_a_declared_limit_is_not_run_and_is_shown_with_its_reason(tmp_path: Path):
    module = TEN_LINES.replace(
        "    async def", '    limits = {"exit-codes": "one bit only", "output": "write-only"}\n\n    async def', 1
    )
    done = run(tmp_path, "-p", "no:xdist", "--conformance-report", "r.json", module=module)
    assert done.returncode == 0, done.stdout + done.stderr
    (machine,) = json.loads((tmp_path / "r.json").read_text())["machines"]
    assert machine["limits"] == {"exit-codes": "one bit only", "output": "write-only"}
    assert outcomes(machine)["exit-codes"] == outcomes(machine)["streams"] == "limit"
    assert "limit    exit-codes: one bit only" in done.stdout


def test_a_limit_that_names_nothing_is_an_error_that_lists_what_there_is(tmp_path: Path):
    module = TEN_LINES.replace("    async def", '    limits = {"exit-code": "misspelt"}\n\n    async def', 1)
    done = run(tmp_path, "-p", "no:xdist", module=module)
    assert done.returncode == 1
    assert "limits of TestMine name no behaviour and no group: exit-code; there are" in done.stdout


def test_a_failing_behaviour_is_in_the_report_with_its_reason(tmp_path: Path):
    module = TEN_LINES.replace("FakeMachine()", "Deaf()").replace(
        "\n\nclass",
        "\n\nclass Deaf(FakeMachine):\n    async def execute(self, request):\n"
        "        return (await super().execute(request)).__class__(exit_code=0)\n\n\nclass",
        1,
    )
    done = run(tmp_path, "-p", "no:xdist", "--conformance-report", "r.json", module=module)
    assert done.returncode == 1
    (machine,) = json.loads((tmp_path / "r.json").read_text())["machines"]
    assert machine["conforms"] is False
    found = {entry["id"]: entry for entry in machine["behaviours"]}
    assert found["exit-codes"]["outcome"] == "failed"
    assert "a command that exited with 1 was reported with 0" in found["exit-codes"]["reason"]
    assert found["can-spawn"]["outcome"] == "passed"


def test_a_class_without_make_machine_says_so(tmp_path: Path):
    module = "from gitmachine.testing import MachineConformance\n\n\nclass TestMine(MachineConformance):\n    pass\n"
    done = run(tmp_path, "-p", "no:xdist", module=module)
    assert done.returncode == 1
    assert "TestMine has no make_machine" in done.stdout


def test_the_kit_and_the_fake_machine_need_no_pytest():
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "from gitmachine.testing import FakeMachine, FaultyMachine, MachineConformance\n"
        "from gitmachine.testing.kit import check_machine\n"
        "class Kit(MachineConformance):\n"
        "    async def make_machine(self): return FakeMachine()\n"
        "print(check_machine(Kit, ['exit-codes'])[0].outcome)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("passed\n", "")


def test_import_gitmachine_does_not_load_what_is_for_tests():
    script = "import gitmachine, sys; gitmachine.AsyncGitMachine; print([m for m in sys.modules if 'testing' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("attribute", ["id", "group", "statement", "story"])
def test_every_behaviour_says_what_it_is_and_who_gets_it_wrong(attribute: str):
    from gitmachine.testing import MachineConformance

    for found in MachineConformance.behaviours().values():
        assert getattr(found, attribute), found


def test_the_page_lists_every_behaviour_with_its_statement():
    from gitmachine.testing import MachineConformance

    page = Path(__file__).resolve().parents[2].joinpath("docs", "conformance.md").read_text(encoding="utf-8")
    missing = [
        found.id
        for found in MachineConformance.behaviours().values()
        if f"| `{found.id}` | {found.statement}" not in page
    ]
    assert missing == []
