"""How the fake machine finds, stops and kills processes while the process table changes under it.

Time budget: 15 s.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gitmachine import ExecRequest
from gitmachine.errors import CommandTimeoutError
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake import tree

pytestmark = pytest.mark.requires("linux")

PARENT, CHILD = 2_000_001, 2_000_002  # no system gives such numbers to processes by default


class Tables:
    """A process table that says something else at each look; the last word stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: dict[int, str]) -> None:
        self.looks = list(looks)
        self.signals: list[tuple[int, int]] = []
        monkeypatch.setattr(tree, "_processes", self.look)
        monkeypatch.setattr(tree, "_signal", lambda pid, number: self.signals.append((pid, number)))

    def look(self) -> dict[int, tree._Row]:
        states = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {pid: tree._Row(1, pid, state, 7) for pid, state in states.items()}


def test_a_child_that_the_table_of_its_parents_vfork_missed_is_stopped_too(monkeypatch: pytest.MonkeyPatch):
    tables = Tables(monkeypatch, {PARENT: "R"}, {PARENT: "D"}, {PARENT: "D", CHILD: "R"}, {PARENT: "D", CHILD: "T"})
    assert tree._freeze(set) == {PARENT: 7, CHILD: 7}
    assert tables.signals == [(PARENT, signal.SIGSTOP), (CHILD, signal.SIGSTOP)]


def test_a_child_that_the_table_of_its_stopped_parent_missed_is_stopped_too(monkeypatch: pytest.MonkeyPatch):
    Tables(monkeypatch, {PARENT: "R"}, {PARENT: "T"}, {PARENT: "T", CHILD: "R"}, {PARENT: "T", CHILD: "T"})
    assert tree._freeze(set) == {PARENT: 7, CHILD: 7}


def test_what_is_killed_has_ended_when_the_killing_returns(monkeypatch: pytest.MonkeyPatch):
    dying = [{PARENT: "T"}] * 3 + [{PARENT: "R"}] * 3
    tables = Tables(monkeypatch, *dying, {PARENT: "Z"})
    assert tree._slay(set)
    assert len(tables.looks) == 1
    assert (PARENT, signal.SIGKILL) in tables.signals


def test_what_does_not_end_is_told_after_the_deadline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tree, "_DEADLINE_SECONDS", 0.2)
    Tables(monkeypatch, {PARENT: "T"})
    assert not tree._slay(set)


def test_a_number_that_was_given_to_somebody_elses_process_is_not_ours_any_more():
    ours = tree.ProcessTree()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            ours.add(stranger.pid)
            ours._leaders[stranger.pid] -= 1  # ours had started earlier
            ours.kill_all()
            assert stranger.poll() is None
            ours.add(stranger.pid)
            ours.kill_all()
            assert stranger.wait(60) == -signal.SIGKILL
        finally:
            stranger.kill()


async def test_a_timeout_at_any_moment_of_hiding_leaves_nothing_behind():
    chance = random.Random(7)
    mark = f"60{os.getpid()}.{time.monotonic_ns() % 10**6}"
    hidden = f'setsid env -i PATH="$PATH" sh -c "sleep {mark} & sleep {mark}"'
    request = ExecRequest(shell=f"( {hidden} & ) ; sleep {mark}")
    machine = FakeMachine()
    await machine.start()
    try:
        for _ in range(30):
            with pytest.raises(CommandTimeoutError):
                await machine.execute(ExecRequest(shell=request.shell, timeout=chance.uniform(0.002, 0.04)))
            assert _sleepers(mark) == []
    finally:
        await machine.stop()


def _sleepers(mark: str) -> list[str]:
    wanted, found = b"sleep\0" + mark.encode() + b"\0", []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes() == wanted:
                found.append(entry.name)
        except OSError:
            continue  # it has ended
    return found
