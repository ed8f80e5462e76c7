"""What a shell said of itself when it was opened."""

from __future__ import annotations

import attrs

__all__ = ["Shell"]


@attrs.frozen(kw_only=True)
class Shell:
    """One shell's abilities.

    Attributes:
        pid: its process id, in the machine.
        mark_option: the letter of its ``ulimit`` that sets RLIMIT_LOCKS, or "" when processes cannot be marked.
        reopens: whether its outputs can be opened anew through /proc (pipes can, sockets cannot).
        counts: whether /proc/loadavg tells the last process id, so that only new processes have to be looked at.
        takes_input: whether there is a ``head -c`` to cut input with.
        problem: why it cannot be used for the channel, or "".
    """

    pid: int
    mark_option: str = ""
    reopens: bool = False
    counts: bool = False
    takes_input: bool = False
    problem: str = ""
