"""A command line in a process group of its own, to be watched and signalled. Time budget: no tests here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["Started"]


class Started:
    """A ``gitmachine`` in a process group of its own, as a terminal's foreground job is."""

    def __init__(self, environment: Mapping[str, str], cwd: Path, *args: str) -> None:
        self.errors = cwd / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gitmachine", *args],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait, with a deadline, for something to become true."""
        deadline = time.monotonic() + 60
        while not ready():
            assert self.process.poll() is None, self.stderr()
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.01)

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def end_code(self) -> int:
        """Wait for the end and return the exit code; what was printed since is in `rest`."""
        assert self.process.stdout is not None
        self.rest = self.process.stdout.read().decode()
        return self.process.wait(60)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and the last line on standard error."""
        code = self.end_code()
        assert "Traceback" not in self.stderr()
        return code, self.stderr().splitlines()[-1]

    def stderr(self) -> str:
        return self.errors.read_text()

    def close(self) -> None:
        """Kill what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
