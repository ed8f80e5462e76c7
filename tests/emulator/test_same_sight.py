"""The official SDK and our client, driven by one script against one emulator, see the same.

Time budget: 40 s.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.e2b import Emulator, sdk
from support.e2b.raw import Raw

pytestmark = [pytest.mark.requires("e2b-emulator", "e2b-sdk")]
SCRIPT = Path(__file__).parent / "sight"
SECONDS = 240
STEPS = 36


def sight(emulator: Emulator, client: str, *arguments: str) -> list[list[Any]]:
    """Run the script with a client (`ours`, or a version of the SDK) and return what it saw."""
    program, name = (sys.executable, "ours") if client == "ours" else (str(sdk.python(client)), "official")
    environment = {"PATH": "/usr/bin:/bin", "NO_PROXY": "*", **emulator.environment}
    argv = [program, str(SCRIPT), name, *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout, done.stderr
    found: list[list[Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def our_trace(emulator: Emulator) -> list[list[Any]]:
    return sight(emulator, "ours")


@pytest.mark.parametrize("version", sdk.VERSIONS)
def test_both_clients_see_the_same_outputs_exit_codes_and_files(
    emulator: Emulator, our_trace: list[list[Any]], version: str
) -> None:
    theirs = sight(emulator, version)
    assert len(theirs) == STEPS
    for mine, other in zip(our_trace, theirs, strict=True):
        assert mine == other
    assert emulator.sandbox_ids == []


def test_both_clients_see_the_same_sandbox(emulator: Emulator, raw: Raw) -> None:
    raw.create()
    box = raw.create(metadata={"made": "by hand"}, envVars={"A": "1"})
    box.write("/home/user/binary", bytes(range(256)))
    box.write("/home/user/sub/text", b"text\n")
    seen = {client: sight(emulator, client, box.id) for client in ("ours", *sdk.VERSIONS)}
    assert seen["ours"][:2] == [["listed", [box.id]], ["id", box.id]]
    for version in sdk.VERSIONS:
        assert seen[version] == seen["ours"]
    assert box.api("GET").json()["state"] == "running"
