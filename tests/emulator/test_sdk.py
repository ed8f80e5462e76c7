"""The emulator as the official SDK finds it: two versions, sync and async, a script of calls with assertions.

Time budget: 40 s, and once 30 s more to install the SDKs.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.e2b import OTHER_KEY, Emulator, sdk

pytestmark = [pytest.mark.requires("e2b-emulator", "e2b-sdk")]
SCRIPT = Path(__file__).parent / "official"
SECONDS = 200
CHECKS = 31


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("version", sdk.VERSIONS)
def test_the_official_sdk_finds_what_it_finds_at_the_real_service(emulator: Emulator, version: str, mode: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "E2B_OTHER_KEY": OTHER_KEY, "NO_PROXY": "*", **emulator.environment}
    argv = [str(sdk.python(version)), str(SCRIPT), mode]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    failures = {row["check"]: row["failure"] for row in rows[:-1] if row["failure"]}
    assert not failures, "\n".join(f"{name}: {why}" for name, why in failures.items())
    assert rows, done.stderr
    assert rows[-1] == {"done": True}, done.stderr
    assert len(rows) - 1 == CHECKS
    assert emulator.sandbox_ids == []
