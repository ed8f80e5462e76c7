"""What is loaded when, in a fresh interpreter. Names only: what it costs is a benchmark, not a test.

Time budget: 10 s.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

HEAVY = {"aiodocker", "asyncio", "asyncssh", "cattrs", "click", "httpx", "importlib_metadata", "rich", "sqlite3", "ssl"}


def run_python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=100, check=False)


def loaded_by(script: str) -> set[str]:
    """Return every module that a fresh interpreter has after a script, less what it starts with."""
    report = "import json\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    code = f"import sys\nbefore = set(sys.modules)\n{script}\n{report}"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def imported_by_command(*args: str) -> set[str]:
    """Return every module that is loaded when the command ends (the interpreter's own report misses lazy ones)."""
    code = f"""
import atexit, json, sys
before = set(sys.modules)
atexit.register(lambda: print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr))
sys.argv = ["gitmachine", *{args!r}]
from gitmachine.cli import main
sys.exit(main())
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def tops(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_importing_the_package_loads_nothing_heavy():
    modules = loaded_by("import gitmachine")
    assert tops(modules) & {*HEAVY, "attrs", "pluggy"} == set()
    assert {name for name in modules if name.startswith("gitmachine.")} == set()


def test_importing_the_contract_for_authors_loads_no_client_and_no_terminal():
    modules = loaded_by("from gitmachine import Machine, ExecRequest, ProviderSpec, hookimpl")
    assert tops(modules) & (HEAVY - {"asyncio", "ssl"}) == set()


def test_the_class_for_users_loads_no_terminal_and_no_provider():
    modules = loaded_by("from gitmachine import AsyncGitMachine, GitMachine")
    assert tops(modules) & {"click", "rich", "httpx", "aiodocker", "asyncssh", "gitmachine_local"} == set()


def test_the_version_is_told_without_plugins_and_without_an_event_loop():
    modules = imported_by_command("--version")
    unwanted = {"asyncio", "pluggy", "importlib_metadata", "rich", "sqlite3", "cattrs"}
    assert tops(modules) & unwanted == set()
    assert {name for name in modules if name.startswith(("gitmachine.plugins", "gitmachine.git"))} == set()


def test_listing_providers_loads_no_machine_and_no_client():
    modules = imported_by_command("providers", "--json")
    assert "gitmachine_local.plugin" in modules
    assert {name for name in modules if re.fullmatch(r"gitmachine_\w+\.(machine|_\w+)", name)} == set()
    assert tops(modules) & {"rich", "httpx", "aiodocker", "asyncssh", "sqlite3"} == set()


def test_listing_providers_for_a_person_without_a_terminal_loads_no_client_either():
    modules = imported_by_command("providers")
    assert "gitmachine_local.plugin" in modules
    assert tops(modules) & {"httpx", "aiodocker", "asyncssh", "sqlite3"} == set()
