"""Processes of the host, known by pid and start time, and ended for certain."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RLIMIT_LOCKS_LINE = b"Max file locks"

Identity = tuple[int, str]
"""A pid and when it started, in the system's own words: together they name one process for ever."""


def identify(pid: int) -> Identity | None:
    """Return the identity of a live process; None when there is none, or only its zombie."""
    state, born = _look(pid)
    return None if not state or state[0] in "ZXx" else (pid, born)


def _birth(pid: int) -> Identity:
    """Return the identity of a process, or of its zombie."""
    return pid, _look(pid)[1]


def _look(pid: int) -> tuple[str, str]:
    """Return a process's state and when it started; two empty words for none."""
    if not sys.platform.startswith("linux"):
        words = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
        ).stdout.split(maxsplit=1)
        return ("", "") if len(words) < 2 else (words[0], words[1].strip())
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123  # pathlib costs more than the read
            fields = file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def is_alive(identity: Identity | None) -> bool:
    """Whether that very process lives."""
    return identity is not None and identify(identity[0]) == tuple(identity)


_children: dict[int, Identity] = {}
"""What `start` started, until it was reaped."""

REAP_SECONDS = 1.0
_reaped = 0.0


def start(argv: Sequence[str], fds: Sequence[int], log: Path) -> Identity | None:
    """Start a program that outlives this process, in a session of its own; None when it has ended already.

    The descriptors keep their numbers; what it says on standard error goes to the log. Raises OSError.
    """
    with log.open("ab") as errors:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"PATH": os.defpath},
            cwd="/",
            pass_fds=fds,
            start_new_session=True,
        )
    child.returncode = 0  # nobody waits for it there: `reap` does
    identity = identify(child.pid)
    _children[child.pid] = identity or _birth(child.pid)
    if identity is None:
        reap(_children[child.pid])
    return identity


def reap(*identities: Identity | None) -> None:
    """Let the system forget children that have ended."""
    for identity in identities:
        # Another part of the program may have waited for any child at all, and the number be that of another one.
        if identity is not None and _children.get(identity[0]) == _birth(identity[0]):
            with contextlib.suppress(ChildProcessError):  # it is that of a process that this one is a fork of
                if os.waitpid(identity[0], os.WNOHANG)[0] == 0:
                    continue
        if identity is not None:
            _children.pop(identity[0], None)


def reap_all() -> None:
    """Let the system forget children that ended by themselves, or by another process; looks once in a while only."""
    global _reaped  # noqa: PLW0603  # when this process looked is one fact of this process
    if time.monotonic() - _reaped > REAP_SECONDS:
        _reaped = time.monotonic()
        reap(*_children.values())


def end(identity: Identity | None, *, timeout_seconds: float = 30.0) -> None:
    """Kill a process and wait until it is gone; never one that merely has its pid.

    Raises:
        TimeoutError: it does not go.
    """
    deadline = time.monotonic() + timeout_seconds
    if identity is None:
        return
    pidfd = _open(identity[0])
    try:
        # The descriptor was opened first, so a process that is the right one now stays the one it names.
        if not is_alive(identity):
            return
        with contextlib.suppress(ProcessLookupError):
            if pidfd is None:
                os.kill(identity[0], signal.SIGKILL)
            else:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait(identity, pidfd, deadline)
    finally:
        if pidfd is not None:
            os.close(pidfd)


def wait_end(identity: Identity | None, *, timeout_seconds: float) -> None:
    """Wait until a process is gone. Raises TimeoutError."""
    if identity is None:
        return
    pidfd = _open(identity[0])
    try:
        _wait(identity, pidfd, time.monotonic() + timeout_seconds)
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _open(pid: int) -> int | None:
    with contextlib.suppress(OSError, AttributeError):  # an old kernel, another system, or gone already
        return os.pidfd_open(pid)
    return None


def _wait(identity: Identity, pidfd: int | None, deadline: float) -> None:
    while is_alive(identity):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"process {identity[0]} does not end")
        if pidfd is not None:
            select.select([pidfd], [], [], min(left, 1.0))
        else:
            time.sleep(0.002)


def end_marked(prefix: int) -> None:
    """Kill every process that carries a machine's mark: what an unsandboxed machine whose supervisor died left."""
    for _round in range(100):
        marked = [pid for pid in _pids() if _mark(pid) >> 24 == prefix]
        if not marked:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in marked:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.002)


def end_logging(log: Path) -> bool:
    """Kill every process whose standard error is a file; False where the system does not tell which these are."""
    if not sys.platform.startswith("linux"):
        return False
    for _round in range(100):
        found = [identity for pid in _pids() if _logs_to(pid, log) and (identity := identify(pid)) is not None]
        if not found:
            break
        for identity in found:
            end(identity)
    return True


def _logs_to(pid: int, log: Path) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/fd/2").samefile(log)
    return False


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _mark(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        if identify(pid) is not None:
            for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
                if line.startswith(RLIMIT_LOCKS_LINE):
                    return int(line.split()[3])
    return 0
