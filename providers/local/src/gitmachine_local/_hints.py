"""Advice for commands that failed for want of a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine import ExecResult

TAIL_BYTES = 64 << 10

SIGNS = re.compile(
    rb"could not resolve|couldn't resolve|temporary failure in name resolution|network is unreachable"
    rb"|network unreachable|EAI_AGAIN|ENETUNREACH|name or service not known|getaddrinfo|failed to lookup address"
    rb"|no address associated|unable to resolve host|dial (tcp|udp).*(lookup|unreachable)|temporary failure resolving"
    rb"|nodename nor servname|dns error|unknownhostexception|failed to resolve|no route to host|bad address '",
    re.IGNORECASE,
)

HINT = (
    'this machine has no network (the local provider\'s default): set network = "host" under [providers.local], '
    "or pass -o network=host, to give it the host's"
)


def network_hint(result: ExecResult) -> str | None:
    """Return advice when a failed command's last words are those of a missing network."""
    if result.ok:
        return None
    tail = result.stderr_bytes[-TAIL_BYTES:] + b"\n" + result.stdout_bytes[-TAIL_BYTES:]
    return HINT if SIGNS.search(tail) else None
