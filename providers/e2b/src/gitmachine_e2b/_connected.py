"""The part of an E2B machine that holds the connections to its sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar, Literal

from gitmachine import InvalidStateError
from gitmachine.machine import Capability, Machine, MachineState
from gitmachine_e2b import _births
from gitmachine_e2b._envd import Envd
from gitmachine_e2b._errors import PROBLEMS, PROVIDER
from gitmachine_e2b._hosts import address_of
from gitmachine_e2b._link import Link
from gitmachine_e2b._snapshots import control_plane
from gitmachine_e2b.config import E2BConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from gitmachine_e2b._api import ControlPlane
    from gitmachine_e2b._hosts import Sandboxed
    from gitmachine_e2b._process import E2BProcess

ALL = frozenset(
    {
        Capability.SPAWN,
        Capability.STDIN_EOF,
        Capability.PAUSE,
        Capability.USER,
        Capability.PTY,
        Capability.PORTS,
        Capability.SNAPSHOT,
        Capability.FORK,
        Capability.QUIESCE,
    }
)


class ConnectedMachine(Machine):
    """What every operation of an E2B machine goes through; `E2BMachine` adds the operations."""

    provider: ClassVar[str] = PROVIDER
    bulk_in: Literal["stream", "files"] = "files"

    def __init__(self, config: E2BConfig | None = None) -> None:
        self.config = config if config is not None else E2BConfig()
        self.workdir = "/home/user"
        self.capabilities = ALL
        self.on_expiry: Callable[[datetime], None] | None = None
        """Called once, when the service grants no more time, with the end of the sandbox."""
        self._sandbox: Sandboxed | None = None
        self._state = MachineState.IDLE
        self._current: Link | None = None
        self._frozen: list[E2BProcess] = []
        self._seen = False

    @property
    def id(self) -> str | None:
        """The sandbox's id, from start to stop."""
        return self._sandbox.id if self._sandbox is not None else None

    @property
    def sandbox_id(self) -> str | None:
        """The same as `id`, as upstream calls it."""
        return self.id

    @property
    def state(self) -> MachineState:
        """The state as this object knows it."""
        return self._state

    def _adopt(self, sandbox: Sandboxed) -> None:
        self._sandbox = sandbox
        self.label = sandbox.metadata.get(_births.LABEL, self.label)
        lacking = set()
        if not sandbox.has(0, 5, 2):
            lacking.add(Capability.STDIN_EOF)
        if not sandbox.has(0, 5, 0):
            lacking |= {Capability.SNAPSHOT, Capability.FORK}
        self.capabilities = ALL - lacking

    def _control_plane(self) -> ControlPlane:
        return control_plane(self.config)

    def _known(self) -> Sandboxed:
        """Return what is known of the sandbox; there is one from start to stop."""
        if self._sandbox is None:
            raise InvalidStateError("the machine is not running: call start() first", provider=PROVIDER)
        return self._sandbox

    def _link(self) -> Link:
        """Return the connections to the sandbox; new ones where the loop of the old ones is another."""
        sandbox, loop = self._known(), asyncio.get_running_loop()
        if self._current is None or self._current.loop is not loop:
            envd = Envd(address_of(self.config, sandbox), seconds=self.config.seconds)
            self._hold(self._control_plane(), envd)
        assert self._current is not None
        return self._current

    def _hold(self, api: ControlPlane, envd: Envd) -> Link:
        """Keep these connections; a running sandbox is extended from now on."""
        link = self._current = Link(
            api,
            envd,
            workdir=self.workdir,
            timeout=self.config.timeout,
            on_expiry=self._expires,
            on_paused=self._found_paused,
        )
        if self._state is MachineState.RUNNING:
            link.lifetime.start()
        return link

    def _expires(self, ends_at: datetime) -> None:
        if self.on_expiry is not None:
            self.on_expiry(ends_at)

    def _found_paused(self) -> None:
        if self._state is MachineState.RUNNING:
            self._state = MachineState.PAUSED

    async def _disconnect(self, why: str) -> None:
        link, self._current = self._current, None
        self._frozen = []
        if link is not None and link.loop is asyncio.get_running_loop():
            await link.close(why)

    @contextlib.asynccontextmanager
    async def _asking(self, operation: str) -> AsyncIterator[Link]:
        """Give the connections; what goes wrong with them is raised as one of GitMachine's errors."""
        link = self._link()
        try:
            yield link
        except PROBLEMS as problem:
            raise await link.explain(problem, operation) from problem
