"""Which process drives a machine, told apart from a later process with the same pid."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["is_alive", "process_start", "this_process"]


def this_process() -> tuple[int, str | None]:
    """Return this process's pid and start, as `is_alive` wants them."""
    pid = os.getpid()
    return pid, process_start(pid)


def process_start(pid: int) -> str | None:
    """Return when a process started, in a form to compare; None when there is none, or this system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name in parentheses may hold anything; field 3 follows the last ')'. Field 22 is the start time in
    # clock ticks after boot (proc(5)), hence the boot's own id with it.
    fields = text[text.rfind(")") + 2 :].split()
    if fields[0] in {"Z", "X"}:
        return None
    return f"{_boot()}-{fields[19]}"


def is_alive(pid: int | None, start: str | None) -> bool:
    """Tell whether the process with this pid and start still runs."""
    if pid is None or pid <= 0:
        return False
    if start is not None:
        return process_start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return "boot"
