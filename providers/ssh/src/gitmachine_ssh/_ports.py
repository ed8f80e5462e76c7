"""Ports of the host on 127.0.0.1 here, for as long as the machine object is used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitmachine import ConfigError, Host
from gitmachine_ssh._errors import BROKEN, session_errors

if TYPE_CHECKING:
    import asyncssh

    from gitmachine_ssh._link import Line, Link

__all__ = ["Ports"]

HERE = "127.0.0.1"


class Ports:
    """Forwards ports over the first connection of a link; each keeps its local address when that is made anew."""

    def __init__(self, link: Link) -> None:
        """Forward nothing yet."""
        self._link = link
        self._forwards: dict[int, tuple[Line, asyncssh.SSHListener]] = {}

    async def host(self, port: int) -> Host:
        """Return where a port of the host can be reached here.

        Raises:
            ConfigError: it is no port.
            MachineUnreachableError: there is no connection.
        """
        if not 0 < port < 1 << 16:
            raise ConfigError(f"expected a port from 1 to 65535, not {port!r}")
        return Host(f"{HERE}:{await self._forward(port)}")

    async def renew(self) -> None:
        """Forward again what an earlier connection did."""
        for port in list(self._forwards):
            await self._forward(port)

    async def _forward(self, port: int) -> int:
        line = await self._link.line()
        known = self._forwards.get(port)
        if known is not None and known[0] is line:
            return known[1].get_port()
        local = 0
        if known is not None:
            local = known[1].get_port()
            known[1].close()
            await known[1].wait_closed()
        with session_errors(self._link.where, None, "get_host"):
            try:
                listener = await line.ssh.forward_local_port(HERE, local, "localhost", port)
            except OSError:
                if local == 0:
                    raise
                listener = await line.ssh.forward_local_port(HERE, 0, "localhost", port)  # somebody took it meanwhile
        self._forwards[port] = (line, listener)
        return listener.get_port()

    async def close(self) -> None:
        """Stop listening."""
        forwards, self._forwards = self._forwards, {}
        for _line, listener in forwards.values():
            listener.close()
            with contextlib.suppress(*BROKEN):
                await listener.wait_closed()
