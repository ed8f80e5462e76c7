"""A terminal in a machine, through the real command line on a pseudo-terminal. Time budget: 60 s."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.requires("sandbox")

PATIENCE_SECONDS = 60


class Seat:
    """A terminal with a ``gitmachine`` in its foreground, and what was shown on it."""

    def __init__(self, environment: dict[str, str], cwd: Path, *args: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(100, 30)
        self.found = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gitmachine", *args],
            env=environment,
            cwd=cwd,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> str:
        """Read until something is shown; returns what was shown since the last time."""
        deadline, wanted = time.monotonic() + PATIENCE_SECONDS, text.encode()
        while wanted not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self.master, 1 << 16)
        before, _, self.shown = self.shown.partition(wanted)
        return (before + wanted).decode()

    def end(self) -> int:
        """Wait for the end, reading on; the terminal has to be as it was."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 1 << 16)
        assert termios.tcgetattr(self.slave) == self.found
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 1 << 16)
        return self.process.returncode

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def gitmachine(inside: Run) -> Run:
    """Run what nothing waits for in this process."""
    return inside


@pytest.fixture
def machine(gitmachine: Run, remote: Path) -> str:
    """A machine named a, whose commands all know GREETING."""
    done = gitmachine("start", "-r", str(remote), "-s", "feat", "--name", "a", "-e", "GREETING=hello")
    assert done.returncode == 0, done.stderr
    return "a"


@pytest.fixture
def sit(home: Any, tmp_path: Path) -> Iterator[Callable[..., Seat]]:
    seats: list[Seat] = []

    def make(*args: str) -> Seat:
        seats.append(Seat(home.environment(), tmp_path, *args))
        return seats[-1]

    yield make
    for seat in seats:
        seat.close()


def test_a_shell_is_a_terminal_of_our_size_in_the_repository_with_all_variables(
    machine: str, sit: Callable[..., Seat], gitmachine: Run
) -> None:
    script = 'tty; pwd; stty size; echo "$GREETING, $MINE"; exit 7'
    seat = sit("shell", machine, "-e", "MINE=two words", "--", "sh", "-c", script)
    shown = seat.until("hello, two words\r\n")
    assert "/dev/pts/" in shown
    assert "/home/user/repo\r\n30 100\r\n" in shown
    assert seat.end() == 7
    assert b"gitmachine: the command exited with 7\r\n" in seat.shown
    (row,) = gitmachine("logs", machine).stdout.splitlines()
    assert "tty; pwd" in row
    assert row.split("  ")[2] == "7"


def test_a_shell_without_a_command_is_the_machine_s_own_and_ends_with_ctrl_d(
    machine: str, sit: Callable[..., Seat]
) -> None:
    seat = sit("shell", machine)
    seat.type("echo it is $((6 * 7)) > answer; cat answer\r")
    seat.until("it is 42\r\n")
    seat.until("$ ")  # a shell that is not ready yet has other keys
    seat.type("\x04")
    assert seat.end() == 0


def test_keys_and_sizes_go_to_the_machine_and_three_keys_leave_it(machine: str, sit: Callable[..., Seat]) -> None:
    script = "trap 'echo caught' INT; trap 'stty size' WINCH; echo rea''dy; while :; do sleep 0.05; done"
    seat = sit("shell", machine, "--", "sh", "-c", script)
    seat.until("ready\r\n")
    seat.type("\x03")
    seat.until("caught\r\n")
    seat.resize(77, 22)
    seat.process.send_signal(signal.SIGWINCH)  # the system's, where the terminal is the controlling one
    seat.until("22 77\r\n")
    seat.type("\x1d\x1dx")  # in a row, or they are keys as any
    seat.type("\x1d\x1d")
    seat.type("\x1d")
    assert seat.end() == 130
    assert b"closed from here" in seat.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_gives_the_terminal_back_and_ends_what_ran(
    machine: str, sit: Callable[..., Seat], gitmachine: Run, number: signal.Signals
) -> None:
    seat = sit("shell", machine, "--", "sh", "-c", "echo rea''dy; while :; do echo x >> beat; sleep 0.05; done")
    seat.until("ready\r\n")
    seat.process.send_signal(number)
    assert seat.end() == 130
    assert b"gitmachine: interrupted: closing the terminal in the machine\r\n" in seat.shown
    first, second = gitmachine("exec", machine, "sh", "-c", "cksum beat; sleep 0.5; cksum beat").stdout.splitlines()
    assert first == second
    assert gitmachine("logs", machine).stdout.splitlines()[0].split("  ")[2] == "137"


def test_a_missing_program_is_told_by_its_code(machine: str, sit: Callable[..., Seat]) -> None:
    seat = sit("shell", machine, "no-such-program")
    assert seat.end() == 127
    assert b"no-such-program: command not found" in seat.shown


def test_all_that_was_shown_arrives(machine: str, sit: Callable[..., Seat]) -> None:
    seat = sit("shell", machine, "--", "sh", "-c", "seq 1 20000")
    seat.until("19999\r\n20000\r\n")
    assert seat.end() == 0


def test_without_a_terminal_it_says_what_to_use_instead(machine: str, gitmachine: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "isatty", lambda _descriptor: False)
    done = gitmachine("shell", machine)
    assert done.returncode == 2
    assert "standard input is not a terminal" in done.stderr
    assert "gitmachine exec a -- COMMAND" in done.stderr


def test_a_machine_that_is_not_there_leaves_the_terminal_alone(sit: Callable[..., Seat]) -> None:
    seat = sit("shell", "nowhere")
    assert seat.end() == 125
    assert b"nowhere" in seat.shown
