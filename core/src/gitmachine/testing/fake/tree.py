"""The processes that a fake machine started: which are its, how to stop them all, how to kill them all."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["ProcessTree", "start_marked"]

_RLIMIT_LOCKS = 10
"""Without effect since Linux 2.4, and inherited through fork, exec, setsid and ``env -i``: its soft value is a mark."""

_MARKS_FOR_EACH_MACHINE = 1 << 20
_DEADLINE_SECONDS = 10.0
_starting = threading.Lock()


class _Row(NamedTuple):
    parent: int
    session: int
    state: str
    start: int


class ProcessTree:
    """Everything that one machine started, children that hid from their parents included.

    Processes are found by descent, by session and by a mark that no ordinary program takes off. Without ``/proc`` only
    their process groups are known.
    """

    def __init__(self) -> None:
        self._base = (1 << 50) + secrets.randbits(20) * _MARKS_FOR_EACH_MACHINE
        self._numbers = itertools.count(1)
        self._leaders: dict[int, int] = {}
        self._marks: dict[tuple[int, int], int | None] = {}
        self._frozen: dict[int, int] = {}

    def new_mark(self) -> int:
        """Return a mark for a new command."""
        return self._base + next(self._numbers) % _MARKS_FOR_EACH_MACHINE

    def add(self, leader: int) -> None:
        """Take note of a command's first process, which lives or is not waited for yet."""
        row = _row(leader)
        self._leaders[leader] = row.start if row else 0

    def freeze(self) -> None:
        """Stop every process; those already stopped are left alone and will not be continued by `thaw`.

        Raises:
            TimeoutError: they do not stop.
        """
        self._frozen.update(_freeze(self._everything))

    def thaw(self) -> None:
        """Continue what `freeze` stopped."""
        table = _processes()
        for pid, start in self._frozen.items():
            if not table or (pid in table and table[pid].start == start):
                _signal(pid, signal.SIGCONT)
        self._frozen.clear()

    def kill(self, leader: int, mark: int) -> None:
        """Kill one command with all its children; returns when they are gone, or after seconds of waiting."""
        _slay(lambda table: self._of_command(table, leader, mark))

    def kill_all(self) -> None:
        """Kill everything.

        Raises:
            TimeoutError: something does not die.
        """
        if not _slay(self._everything):
            raise TimeoutError("processes of the machine do not end")
        self._frozen.clear()

    def _everything(self, table: Mapping[int, _Row]) -> set[int]:
        if not table:
            return set(self._leaders)
        first, last = self._base, self._base + _MARKS_FOR_EACH_MACHINE
        marked = {pid for pid, mark in self._marks_of(table).items() if mark is not None and first <= mark < last}
        return self._grown(table, marked, [*self._leaders])

    def _of_command(self, table: Mapping[int, _Row], leader: int, mark: int) -> set[int]:
        if not table:
            return {leader}
        marked = {pid for pid, its in self._marks_of(table).items() if its == mark}
        return self._grown(table, marked, [leader])

    def _marks_of(self, table: Mapping[int, _Row]) -> dict[int, int | None]:
        """Return the mark of each process; a process has from birth the one it has."""
        known, found, own = self._marks, {}, os.getpid()
        for pid, row in table.items():
            if pid != own:  # ours comes and goes as we start others
                key = (pid, row.start)
                found[key] = known[key] if key in known else _mark_of(pid)
        self._marks = found
        return {pid: mark for (pid, _), mark in found.items()}

    def _grown(self, table: Mapping[int, _Row], marked: set[int], leaders: Iterable[int]) -> set[int]:
        """Add descendants and sessions; leave out what another thread of ours started while we held the mark."""
        own = os.getpid()
        # A leader's number is given to somebody else when it and its session are gone.
        ours = {pid for pid in leaders if pid not in table or table[pid].start == self._leaders.get(pid)}
        known = marked | {pid for pid, row in table.items() if row.session in ours or pid in ours}
        grown = True
        while grown:
            new = {pid for pid, row in table.items() if row.parent in known} - known
            known |= new
            grown = bool(new)
        return {pid for pid in known if pid != own and _child_of(table, own, pid) in {None, *self._leaders}}


def start_marked(mark: int, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that carries a mark from its first moment; it leads a session of its own."""
    with _starting:
        try:
            soft, hard = resource.getrlimit(_RLIMIT_LOCKS)
            resource.setrlimit(_RLIMIT_LOCKS, (mark, hard))
        except (OSError, ValueError):  # another system, or a low limit: found by descent and session only
            return subprocess.Popen(argv, start_new_session=True, **options)
        try:
            return subprocess.Popen(argv, start_new_session=True, **options)
        finally:
            resource.setrlimit(_RLIMIT_LOCKS, (soft, hard))


def _child_of(table: Mapping[int, _Row], own: int, pid: int) -> int | None:
    """Return our own child that a process descends from, or None when it descends from none."""
    while pid in table and table[pid].parent != own:
        pid = table[pid].parent
    return pid if pid in table else None


def _processes() -> dict[int, _Row]:
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return {pid: row for pid in pids if (row := _row(pid)) is not None}


def _row(pid: int) -> _Row | None:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return _Row(int(words[1]), int(words[3]), words[0].decode(), int(words[19]))
    return None


def _mark_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
            if line.startswith(b"Max file locks"):
                return int(line.split()[3])
    return None


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if Path("/proc/self/stat").exists():
            os.kill(pid, number)
        else:
            os.killpg(pid, number)


def _freeze(select: Callable[[Mapping[int, _Row]], set[int]]) -> dict[int, int]:
    """Stop processes, round after round, until none is running; return the pid and start of those stopped here."""
    frozen: dict[int, int] = {}
    still: set[int] | None = None
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        table = _processes()
        selected = select(table)
        running = {pid for pid in selected if pid not in table or table[pid].state not in "tTZXx"}
        for pid in running - frozen.keys():
            frozen[pid] = table[pid].start if pid in table else 0
            _signal(pid, signal.SIGSTOP)
        # Waiting for a disk, or for its vfork child: stops before it returns to its program.
        if not all(pid in frozen and (not table or table[pid].state == "D") for pid in running):
            still = None
        elif still is None or not selected <= still:
            # A table is not of one moment: what forked while it was read has a child that only the next one shows.
            still = selected
            continue
        else:
            return frozen
        time.sleep(0.001)
    for pid in frozen:
        _signal(pid, signal.SIGCONT)
    raise TimeoutError("processes of the machine do not stop")


def _slay(select: Callable[[Mapping[int, _Row]], set[int]]) -> bool:
    """Kill processes for certain: all are stopped first, so that none forks out of sight. Whether all are gone."""
    deadline, nap = time.monotonic() + _DEADLINE_SECONDS, 0.001
    while True:
        stopped: dict[int, int] = {}
        with contextlib.suppress(TimeoutError):  # what cannot be stopped is killed all the same
            stopped = _freeze(select)
        table = _processes()
        # What was stopped is killed, too, when its parent was killed by somebody else meanwhile.
        selected = select(table) | {pid for pid, start in stopped.items() if pid in table and table[pid].start == start}
        for pid in selected:
            _signal(pid, signal.SIGKILL)
        if all(pid in table and table[pid].state in "ZXx" for pid in selected) or not table:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(nap)
        nap = min(2 * nap, 0.05)
