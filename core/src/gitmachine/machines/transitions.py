"""What each operation does in each state of a machine, as data."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from gitmachine.machine import MachineState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPERATIONS_NEED", "TRANSITIONS", "Answer", "Deadlines"]


class Answer(Enum):
    """What a transition does when it is asked for."""

    DO = "do"
    NOTHING = "nothing"
    REFUSE = "refuse"


_IDLE, _RUNNING, _PAUSED, _STOPPED = MachineState

TRANSITIONS: Mapping[str, Mapping[MachineState, Answer]] = MappingProxyType(
    {
        "start": {_IDLE: Answer.DO, _RUNNING: Answer.NOTHING, _PAUSED: Answer.REFUSE, _STOPPED: Answer.DO},
        "pause": {_IDLE: Answer.NOTHING, _RUNNING: Answer.DO, _PAUSED: Answer.NOTHING, _STOPPED: Answer.NOTHING},
        "resume": {_IDLE: Answer.NOTHING, _RUNNING: Answer.NOTHING, _PAUSED: Answer.DO, _STOPPED: Answer.NOTHING},
        "stop": {_IDLE: Answer.NOTHING, _RUNNING: Answer.DO, _PAUSED: Answer.DO, _STOPPED: Answer.NOTHING},
    }
)
"""Start of a stopped machine makes a new one; start of a paused one is refused, since resume is what is meant."""

OPERATIONS_NEED: Mapping[MachineState, str] = MappingProxyType(
    {_IDLE: "start()", _PAUSED: "resume()", _STOPPED: "start()"}
)
"""What to call first where a running machine is needed."""


@attrs.frozen(kw_only=True)
class Deadlines:
    """How long a machine may take to answer, in seconds; then it counts as lost.

    Attributes:
        start: making the machine.
        pause: freezing it.
        resume: continuing it.
        stop: removing it, and ending everything in it.
        files: one file operation, paused time excluded.
        spawn: starting a command, paused time excluded.
        copy: saving or copying its disk; a machine that takes longer is not lost by that.
        execute_margin: how much longer than its timeout a command may take to be reported, paused time and time spent
            in callbacks excluded; a command without a timeout may take for ever.
        close: letting go of the machine.
        cancel: how long a call that is cancelled may take to end before it is left behind.
    """

    start: float = 300.0
    pause: float = 60.0
    resume: float = 60.0
    stop: float = 120.0
    files: float = 300.0
    spawn: float = 60.0
    copy: float = 1800.0
    execute_margin: float = 30.0
    close: float = 30.0
    cancel: float = 10.0
