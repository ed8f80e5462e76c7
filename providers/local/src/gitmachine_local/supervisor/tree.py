"""The processes of a machine: who belongs to a command, how to stop them all, how to kill them all."""

from __future__ import annotations

import errno
import resource
import time

from gitmachine_local.supervisor.lean import os, signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

RLIMIT_LOCKS = 10
"""Unused by Linux since 2.4 and inherited through fork, exec, setsid and ``env -i``: its soft value marks a command."""

FREEZE_SECONDS = 10.0


class Row:
    """A process as ``/proc/PID/stat`` tells it."""

    __slots__ = ("parent", "session", "start", "state")

    def __init__(self, parent: int, session: int, state: str, start: int) -> None:
        self.parent = parent
        self.session = session
        self.state = state
        self.start = start


Table: TypeAlias = "Mapping[int, Row]"
Selection: TypeAlias = "Callable[[Table], set[int]]"
"""From the process table to the pids of interest; may remember what it saw."""


def processes() -> dict[int, Row]:
    """Return every process that can be seen."""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  # pathlib costs more than the read
            words = file.read().rpartition(b")")[2].split()
            table[int(name)] = Row(int(words[1]), int(words[3]), words[0].decode(), int(words[19]))
    return table


def set_mark(mark: int) -> bool:
    """Mark what this process starts from now on; False where the system has no such limit, or a low one."""
    try:
        resource.setrlimit(RLIMIT_LOCKS, (mark, resource.getrlimit(RLIMIT_LOCKS)[1]))
    except (OSError, ValueError):
        return False
    return True


def mark_of(pid: int) -> int | None:
    """Return the mark of a process, or None."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123  # pathlib costs more than the read
        for line in file.read().splitlines():
            if line.startswith(b"Max file locks"):
                return int(line.split()[3])
    return None


def members(table: Table) -> set[int]:
    """Return every process of the machine but this one: all, for the first of a namespace, else its descendants."""
    own = os.getpid()
    if own == 1:
        return set(table) - {1}
    known, grown = {own}, True
    while grown:
        new = {pid for pid, row in table.items() if row.parent in known} - known
        known |= new
        grown = bool(new)
    return known - {own}


def tree_of(leader: int, mark: int | None) -> Selection:
    """Return the selection of a command's processes: by parent, by the leader's session and by mark."""
    known = {leader}

    def select(table: Table) -> set[int]:
        within = members(table)
        known.update(pid for pid in within if mark is not None and pid not in known and mark_of(pid) == mark)
        grown = True
        while grown:
            new = {p for p in within - known if table[p].parent in known or table[p].session == leader}
            known.update(new)
            grown = bool(new)
        return known & within

    return select


def signal_process(pid: int, number: int) -> None:
    """Send a signal; a process that has gone, or that another user started by sudo, is left alone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def freeze(select: Selection) -> dict[int, int]:
    """Stop processes, round after round, until none is running; those already stopped are not touched.

    Returns the pid and start time of each process stopped here.

    Raises:
        OSError: ETIMEDOUT, and everything continues.
    """
    frozen: dict[int, int] = {}
    still: set[int] | None = None
    deadline = time.monotonic() + FREEZE_SECONDS
    while time.monotonic() < deadline:
        table = processes()
        selected = select(table)
        running = {pid for pid in selected if table[pid].state not in "TtZXx"}
        fresh = running - frozen.keys()
        for pid in fresh:
            frozen[pid] = table[pid].start
            signal_process(pid, signal.SIGSTOP)
        # A process in state D (waiting for a disk, or for its vfork child) stops before it returns to its program.
        if not all(pid in frozen and table[pid].state == "D" for pid in running):
            still = None
        elif still is None or not selected <= still:
            # A table is not of one moment: what forked while it was read has a child that only the next one shows.
            still = selected
            continue
        else:
            return frozen
        if not fresh:
            time.sleep(0.001)
    thaw(frozen)
    raise OSError(errno.ETIMEDOUT, "processes do not stop", b"")


def thaw(frozen: Mapping[int, int]) -> None:
    """Continue the processes that `freeze` stopped."""
    table = processes()
    for pid, start in frozen.items():
        if pid in table and table[pid].start == start:
            signal_process(pid, signal.SIGCONT)


def slay(select: Selection) -> bool:
    """Kill processes for certain and wait until they are gone: all are stopped first, so that none forks out of sight.

    Returns whether they are; False after seconds of waiting.
    """
    deadline, nap = time.monotonic() + FREEZE_SECONDS, 0.001
    while True:
        with suppress(OSError):  # what cannot be stopped is killed all the same
            freeze(select)
        table = processes()
        selected = select(table)
        for pid in selected:
            signal_process(pid, signal.SIGKILL)
        if all(table[pid].state in "ZXx" for pid in selected):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(nap)
        nap = min(2 * nap, 0.05)


def slay_all() -> None:
    """Kill every member of the machine and wait until none is left.

    Raises:
        OSError: ETIMEDOUT.
    """
    if not slay(members):
        raise OSError(errno.ETIMEDOUT, "processes do not end", b"")
