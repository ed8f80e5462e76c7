"""The real command line in processes of its own, with directories of its own. Time budget: no tests here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(home: Path, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the environment for a command line whose everything is below `home`."""
    env = {name: value for name, value in os.environ.items() if name not in ("GITMACHINE_CONFIG", "PYTHONPATH")}
    env |= {"GITMACHINE_HOME": str(home)}
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


@pytest.fixture
def gitmachine(gitmachine_home: Path, tmp_path: Path) -> Run:
    """Run ``gitmachine`` to its end in an empty directory."""

    def run(
        *args: str, env: Mapping[str, str | None] | None = None, cwd: Path | None = None, timeout: float = 100
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gitmachine", *args],
            env=environment(gitmachine_home, env),
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )

    return run
