"""The journal's records.

Time budget: 1 s.
"""

from __future__ import annotations

import pytest

from gitmachine.state.records import ENDED_STATES, LIVE_STATES, MachineRecord, new_key


def record(**fields):
    return MachineRecord(**{"key": "k1", "provider": "local", "repository": "r", "session": "s", **fields})


def test_a_machine_is_called_by_its_name_or_else_its_key():
    assert record(name="gpu").label == "gpu"
    assert record().label == "k1"


def test_each_state_is_live_or_ended():
    assert [record(state=state).ended for state in LIVE_STATES] == [False] * len(LIVE_STATES)
    assert [record(state=state).ended for state in ENDED_STATES] == [True] * len(ENDED_STATES)


def test_an_unknown_state_is_refused():
    with pytest.raises(ValueError, match="unknown machine state 'tired'"):
        record(state="tired")


def test_keys_differ():
    assert len({new_key() for _ in range(1000)}) == 1000
