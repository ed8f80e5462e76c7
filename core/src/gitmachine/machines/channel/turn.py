"""One turn of a shell: the next command that it will run, prepared before that command is known."""

from __future__ import annotations

import secrets
from enum import Enum
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.machines.channel.duplex import StreamNumber

__all__ = ["Turn", "TurnKind", "new_token", "turns"]


def new_token() -> str:
    """Return a token for markers: 128 random bits in hexadecimal digits."""
    return secrets.token_hex(16)


class TurnKind(Enum):
    """What the shell says during a turn."""

    HELLO = "hello"
    """What it can do; no look for what was left behind follows."""
    COMMAND = "command"
    """How a command ended, and then what it left behind."""
    LOOK = "look"
    """Only what was left behind."""


@attrs.define(kw_only=True, eq=False)
class Turn:
    """What a shell says between two beginnings.

    Attributes:
        kind: what is to come.
        token: what its markers carry: 128 random bits as hexadecimal digits.
        number: what the process in waiting is started with, so that it takes no other turn's command.
        mark: what the command's processes will carry, 18 digits.
        next: the turn that the shell begins behind this one, when nothing was left behind.
        ended: the streams on which the command is over.
        verdicts: what each stream said of what was left behind.
        status: how the command ended.
        refusal: why no command was run, or "".
        before: the last process id that was given out before the command, or "".
    """

    kind: TurnKind
    token: str = attrs.field(factory=new_token, repr=False)
    number: int = 0
    mark: str = ""
    next: Turn | None = attrs.field(default=None, repr=False)
    ended: set[StreamNumber] = attrs.field(factory=set)
    verdicts: dict[StreamNumber, str] = attrs.field(factory=dict)
    status: str = ""
    refusal: str = ""
    before: str = ""


def turns(first: int, count: int, new_mark: Callable[[], str]) -> Turn:
    """Return the first of a chain of turns for commands, numbered from `first`."""
    turn: Turn | None = None
    for number in reversed(range(first, first + count)):
        turn = Turn(kind=TurnKind.COMMAND, number=number, mark=new_mark(), next=turn)
    assert turn is not None
    return turn
