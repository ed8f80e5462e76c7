"""Advice for commands that failed for a reason that lies in how the container was made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine import ExecResult
    from gitmachine_local_docker.config import DockerConfig

__all__ = ["hint_for", "may_be_memory", "out_of_memory"]

TAIL_BYTES = 64 << 10
KILLED = 137

_NETWORK = re.compile(
    rb"could not resolve|couldn't resolve|temporary failure in name resolution|network is unreachable"
    rb"|network unreachable|EAI_AGAIN|ENETUNREACH|name or service not known|getaddrinfo|failed to lookup address"
    rb"|no address associated|unable to resolve host|dial (tcp|udp).*(lookup|unreachable)|temporary failure resolving"
    rb"|nodename nor servname|dns error|unknownhostexception|failed to resolve|no route to host|bad address '",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(rb"read-only file system", re.IGNORECASE)
_PROCESSES = re.compile(
    rb"resource temporarily unavailable|cannot fork|can't fork|unable to create.*thread", re.IGNORECASE
)
_PRIVILEGE = re.compile(
    rb"no new privileges|effective uid is not 0|must be setuid|sudo: .*operation not permitted", re.I
)


def _tail(result: ExecResult) -> bytes:
    return result.stderr_bytes[-TAIL_BYTES:] + b"\n" + result.stdout_bytes[-TAIL_BYTES:]


def may_be_memory(result: ExecResult) -> bool:
    """Whether a command may have ended because the kernel killed it, or a child of it, for want of memory."""
    return result.exit_code == KILLED or (not result.ok and b"Killed" in _tail(result))


def out_of_memory(config: DockerConfig) -> str:
    """Return what to tell about a command that ran out of memory."""
    limit = f" (limit {config.memory})" if config.memory else ""
    return (
        f"out of memory{limit}: the kernel killed a process of this command: give the machine more, by `memory` under "
        "[providers.local_docker] or by -o memory=…"
    )


def hint_for(result: ExecResult, config: DockerConfig) -> str | None:
    """Return advice when a failed command's last words are those of something that the configuration took away."""
    if result.ok:
        return None
    tail = _tail(result)
    if config.network == "none" and _NETWORK.search(tail):
        return (
            'this machine has no network: set network = "bridge" under [providers.local_docker], or pass '
            "-o network=bridge"
        )
    if config.read_only and _READ_ONLY.search(tail):
        return f"this machine's root is read-only (read_only = true): {config.workdir}, /tmp and /run can be written"
    if _PROCESSES.search(tail):
        return f"this machine may have {config.pids} processes and threads at once: see `pids`"
    if _PRIVILEGE.search(tail):
        return 'commands cannot gain privileges (no-new-privileges): run them with user = "root" instead of sudo'
    return None
