"""The way to the host: one connection, opened on demand and again after a cut; more only where it is full."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

from gitmachine import MachineError, MachineUnreachableError, QuotaError
from gitmachine_ssh._dial import dial, where
from gitmachine_ssh._errors import BROKEN, PROVIDER, reason_of, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine_ssh.config import SSHConfig

__all__ = ["Line", "Link"]

S = TypeVar("S", bound=asyncssh.SSHClientSession[bytes])

REDIAL_SECONDS = 16.0
"""How long a connection that was cut may take to stand again: less than any of the core's deadlines."""
OPEN_SECONDS = 12.0
"""How long the host may take to open a session on a connection that stands."""
WAIT_SECONDS = 20.0
"""How long to wait for a session to end where the host gives no more."""
MAX_LINES = 8
WINDOW_BYTES = 4 << 20


class Line:
    """One connection and how many sessions are on it.

    Attributes:
        ssh: the client library's connection.
        sessions: how many are open.
        full_at: how many the host gave (``MaxSessions``), once it refused one more.
    """

    def __init__(self, ssh: asyncssh.SSHClientConnection) -> None:
        self.ssh = ssh
        self.sessions = 0
        self.full_at: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return not self.ssh.is_closed()

    @property
    def has_room(self) -> bool:
        """Whether one more session may be asked for."""
        return self.full_at is None or self.sessions < self.full_at


class Link:
    """The connections of one machine object, in one event loop."""

    def __init__(self, config: SSHConfig) -> None:
        """Make a link that is not connected yet."""
        self.config = config
        self.where = where(config)
        self.loop = asyncio.get_running_loop()
        self.generation = 0
        """How often the first connection was made."""
        self._lines: list[Line] = []
        self._dialling = asyncio.Lock()
        self._dials = 0
        self._failure: Exception | None = None
        self._freed = asyncio.Event()
        self._closed = False

    @property
    def stands(self) -> bool:
        """Whether there is a connection, as far as is known here."""
        return bool(self._standing())

    async def line(self) -> Line:
        """Return the first connection that stands; a new one when there is none.

        Raises:
            MachineUnreachableError: it cannot be had; or why not, see `dial`.
        """
        if found := self._standing():
            return found[0]
        before = self._dials
        async with self._dialling:
            if found := self._standing():
                return found[0]
            if self._dials != before and self._failure is not None:
                raise self._failure  # who waited for the same attempt need not make another one
            line = await self._dial()
            self.generation += 1
            return line

    async def _dial(self) -> Line:
        if self._is_closed():
            raise unreachable(self.where, None)
        self._dials += 1
        self._failure = None
        try:
            async with asyncio.timeout(REDIAL_SECONDS if self.generation else None) as limit:
                ssh = await dial(self.config)
        except Exception as error:
            failure: Exception = error
            if isinstance(error, TimeoutError) and limit.expired():
                failure = MachineUnreachableError(
                    f"cannot connect to {self.where} within {REDIAL_SECONDS:g} s", provider=PROVIDER
                )
            self._failure = failure
            raise failure from error
        line = Line(ssh)
        self._lines.append(line)
        if self._is_closed():  # meanwhile
            self.abort()
            raise unreachable(self.where, None)
        return line

    def _is_closed(self) -> bool:
        return self._closed

    def _standing(self) -> list[Line]:
        """Return the connections that stand; forget the others."""
        self._lines = [line for line in self._lines if line.alive]
        return self._lines

    async def session(self, make: Callable[[Callable[[Any], None]], S], **options: Any) -> S:
        """Open a session on a connection that has room; `make` gets what is to be called when it is over.

        Raises:
            QuotaError: the host gives no more sessions, and none ended in time.
            MachineUnreachableError: there is no connection, or it was cut before anything was run.
        """
        deadline = self.loop.time() + WAIT_SECONDS
        attempts = 0
        while True:
            attempts += 1
            line = await self._with_room()
            if line is not None:
                try:
                    return await self._open(line, make, options)
                except BROKEN as error:
                    if isinstance(error, asyncssh.ChannelOpenError) and line.alive:
                        line.full_at = line.sessions
                        if line.sessions:
                            continue
                        raise MachineError(
                            f"{self.where} opens no session: {reason_of(error)}", provider=PROVIDER, operation="spawn"
                        ) from error
                    if attempts < 2:
                        continue  # it was cut before this call: nothing was run, so a new connection may try
                    raise unreachable(self.where, error) from error
            self._freed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._freed.wait()
            except TimeoutError as error:
                raise self._quota() from error

    async def _with_room(self) -> Line | None:
        """Return a connection with room for a session, or None when there are as many as may be and all are full."""
        await self.line()
        for line in self._lines:
            if line.has_room:
                return line
        if len(self._lines) >= MAX_LINES:
            return None
        async with self._dialling:
            for line in self._standing():
                if line.has_room:
                    return line
            try:
                return await self._dial()
            except (MachineUnreachableError, OSError):
                if not self._lines:
                    raise
                return None  # the host takes no more connections (MaxStartups): wait for a session

    async def _open(self, line: Line, make: Callable[[Callable[[Any], None]], S], options: dict[str, Any]) -> S:
        line.sessions += 1
        counted = True

        def done(_session: Any) -> None:
            nonlocal counted
            if counted:
                counted = False
                line.sessions -= 1
                self._freed.set()

        session = make(done)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await line.ssh.create_session(lambda: session, encoding=None, window=WINDOW_BYTES, **options)
        except BaseException as error:
            done(session)
            if isinstance(error, TimeoutError):
                line.ssh.abort()  # it does not answer: whatever else is on it need not wait for the keepalive
            raise
        return session

    def _quota(self) -> QuotaError:
        counts = ", ".join(str(line.sessions) for line in self._lines)
        return QuotaError(
            f"{self.where} gives no more sessions: {counts} are open on {len(self._lines)} connection(s), and none "
            "ended in time; raise MaxSessions in its sshd_config, or end what runs in the background",
            provider=PROVIDER,
            operation="spawn",
        )

    def cut(self, error: BaseException) -> MachineUnreachableError:
        """Give up all connections because the host does not answer any more; return the error for it."""
        for line in self._lines:
            line.ssh.abort()
        self._lines.clear()
        return unreachable(self.where, error)

    def abort(self) -> None:
        """Drop every connection at once."""
        self._closed = True
        for line in self._lines:
            line.ssh.abort()

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        lines, self._lines = self._lines, []
        for line in lines:
            line.ssh.close()
        for line in lines:
            try:
                async with asyncio.timeout(3):
                    await line.ssh.wait_closed()
            except (TimeoutError, *BROKEN):
                line.ssh.abort()
                with contextlib.suppress(TimeoutError, *BROKEN):
                    async with asyncio.timeout(1):
                        await line.ssh.wait_closed()
