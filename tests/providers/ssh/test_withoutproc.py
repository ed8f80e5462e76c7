"""The processes of a machine by ps alone, as on macOS and the BSDs, tried on real processes of this host.

Time budget: 10 s.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gitmachine_ssh._withoutproc import freeze_by_ps, kill_by_ps, noting, thaw_by_ps
from support.gitserver import wait_until

pytestmark = pytest.mark.requires("linux", "ps")

QUIET_SECONDS = 1.5
BEAT = "while :; do echo x >> beat; sleep 0.05; done"


class Command:
    """A shell that stays, as a session's does, and a command in a session of its own that it started."""

    def __init__(self, place: Path, script: str) -> None:
        self.place = place
        order = (
            f"cd '{place}'; ( {noting(str(place))}\nexec setsid sh -c '{script}' ) & wait; while :; do sleep 1; done"
        )
        self.control = subprocess.Popen(["sh", "-c", order], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until((place / "beat").exists)

    def size(self) -> int:
        return (self.place / "beat").stat().st_size

    def beats(self) -> bool:
        """Whether it goes on: more than the one line that may have been under way."""
        before = self.size()
        end = time.monotonic() + QUIET_SECONDS
        while self.size() <= before + 4:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def end(self) -> None:
        for line in (self.place / "leaders").read_text().split():
            subprocess.run(["pkill", "-KILL", "-s", line], check=False)
        self.control.kill()
        self.control.wait(60)


def run(script):
    """Run a script as the provider does: on a shell's standard input."""
    done = subprocess.run(["sh"], input=f"(\n{script}\n)\n", text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def command(tmp_path):
    command = Command(tmp_path, f'{BEAT} & sh -c "{BEAT}" & wait')
    try:
        yield command
    finally:
        command.end()


def test_a_command_is_killed_with_its_children_and_its_shell_stays(command, tmp_path):
    run(kill_by_ps(str(tmp_path), "0" * 16, control=command.control.pid))
    assert not command.beats()
    assert command.control.poll() is None


def test_a_machine_is_frozen_continued_and_killed(command, tmp_path):
    machine, record = secrets.token_hex(8), str(tmp_path / "it's paused")
    run(freeze_by_ps(str(tmp_path), machine, record))
    assert Path(record).read_text()
    assert not command.beats()
    run(freeze_by_ps(str(tmp_path), machine, record))
    run(thaw_by_ps(str(tmp_path), machine, record))
    assert command.beats()
    assert not Path(record).exists()
    run(thaw_by_ps(str(tmp_path), machine, record))
    run(kill_by_ps(str(tmp_path), machine))
    assert not command.beats()


def test_what_was_stopped_before_stays_stopped(command, tmp_path):
    leader = int((tmp_path / "leaders").read_text().split()[0])
    os.killpg(leader, signal.SIGSTOP)
    assert not command.beats()
    record = str(tmp_path / "record")
    run(freeze_by_ps(str(tmp_path), "0" * 16, record))
    run(thaw_by_ps(str(tmp_path), "0" * 16, record))
    assert not command.beats()
    os.killpg(leader, signal.SIGCONT)
    assert command.beats()
