"""How the supervisor stops and kills processes while the process table changes under it.

Time budget: 2 s.
"""

from __future__ import annotations

import signal

import pytest

from gitmachine_local.supervisor import tree

pytestmark = pytest.mark.requires("linux")

PARENT, CHILD = 2_000_001, 2_000_002  # no system gives such numbers to processes by default


class Tables:
    """A process table that says something else at each look; the last word stays."""

    def __init__(self, monkeypatch, *looks):
        self.looks = list(looks)
        self.signals = []
        monkeypatch.setattr(tree, "processes", self.look)
        monkeypatch.setattr(tree, "signal_process", lambda pid, number: self.signals.append((pid, number)))

    def look(self):
        states = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {pid: tree.Row(1, pid, state, 7) for pid, state in states.items()}


@pytest.mark.parametrize("state", ["D", "T"])
def test_a_child_that_one_table_missed_is_stopped_too(monkeypatch, state):
    looks = {PARENT: "R"}, {PARENT: state}, {PARENT: state, CHILD: "R"}, {PARENT: state, CHILD: "T"}
    tables = Tables(monkeypatch, *looks)
    assert tree.freeze(set) == {PARENT: 7, CHILD: 7}
    assert tables.signals == [(PARENT, signal.SIGSTOP), (CHILD, signal.SIGSTOP)]


def test_what_is_killed_has_ended_when_the_killing_returns(monkeypatch):
    tables = Tables(monkeypatch, *[{PARENT: "T"}] * 3, *[{PARENT: "R"}] * 3, {PARENT: "Z"})
    assert tree.slay(set)
    assert len(tables.looks) == 1
    assert (PARENT, signal.SIGKILL) in tables.signals


def test_what_does_not_end_is_told_after_the_deadline(monkeypatch):
    monkeypatch.setattr(tree, "FREEZE_SECONDS", 0.2)
    tables = Tables(monkeypatch, {PARENT: "T"})
    assert not tree.slay(set)
    monkeypatch.setattr(tree, "members", set)
    with pytest.raises(OSError, match="do not end"):
        tree.slay_all()
    assert (PARENT, signal.SIGKILL) in tables.signals
