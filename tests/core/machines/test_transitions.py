"""The table of transitions.

Time budget: 1 s.
"""

from __future__ import annotations

import attrs
import pytest

from gitmachine.machine import MachineState
from gitmachine.machines.transitions import OPERATIONS_NEED, TRANSITIONS, Answer, Deadlines


def test_every_transition_has_an_answer_in_every_state():
    assert set(TRANSITIONS) == {"start", "pause", "resume", "stop"}
    for answers in TRANSITIONS.values():
        assert set(answers) == set(MachineState)


@pytest.mark.parametrize(
    ("operation", "does"),
    [
        ("start", {MachineState.IDLE, MachineState.STOPPED}),
        ("pause", {MachineState.RUNNING}),
        ("resume", {MachineState.PAUSED}),
        ("stop", {MachineState.RUNNING, MachineState.PAUSED}),
    ],
)
def test_a_transition_acts_in_these_states_only(operation, does):
    assert {state for state, answer in TRANSITIONS[operation].items() if answer is Answer.DO} == does


def test_every_state_but_running_says_what_to_call_first():
    assert set(OPERATIONS_NEED) == set(MachineState) - {MachineState.RUNNING}


def test_every_deadline_is_positive():
    assert all(seconds > 0 for seconds in attrs.asdict(Deadlines()).values())
