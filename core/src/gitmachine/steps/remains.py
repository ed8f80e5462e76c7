"""What a session left that is to be looked after without its process: its record, its parts, a way to its machine."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.config.machines import restore_options
from gitmachine.errors import MachineError, MachineLostError, StateError, UnsupportedOperation
from gitmachine.plugins.registry import Registry
from gitmachine.state.memory import SessionMemory, recall
from gitmachine.state.origins import recall_origin
from gitmachine.state.owner import is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine.machine import Machine
    from gitmachine.plugins.host import PluginHost
    from gitmachine.session import AsyncGitMachine
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places
    from gitmachine.state.records import Intent, MachineRecord
    from gitmachine.steps.context import Context
    from gitmachine.steps.setup import TokenSource

__all__ = ["Remains", "is_abandoned", "is_orphan", "session_keywords"]

CONNECT_SECONDS = 60.0
"""How long a provider may take to find a machine or to connect to it."""


def is_orphan(record: MachineRecord) -> bool:
    """Tell whether the process that drives a live machine is gone and did not leave it on purpose."""
    return not record.ended and record.owner_pid is not None and not is_alive(record.owner_pid, record.owner_start)


def is_abandoned(intent: Intent) -> bool:
    """Tell whether the process that began an operation is gone."""
    pid, started = intent.detail.get("pid"), intent.detail.get("started")
    return not (isinstance(pid, int) and is_alive(pid, started if isinstance(started, str) else None))


async def session_keywords(places: Places, record: MachineRecord, *, strict: bool = True) -> dict[str, Any]:
    """Return the keyword arguments that a session was started with.

    Raises:
        StateError: this host has forgotten them; unless not `strict`, when what the journal knows has to do.
    """
    try:
        memory = await recall(places, record.key)
    except StateError:
        if strict:
            raise
        origin = await recall_origin(places, record.key)
        memory = SessionMemory(repository=record.repository if origin is None else origin.repository)
    return {
        "repository": memory.repository,
        "session": record.session,
        "options": record.options,
        "env": memory.env,
        "identity": memory.identity,
        "auto_commit": memory.auto_commit,
        "timeout": memory.timeout,
        "git": memory.git,
        "guard": memory.guard,
        "path": record.repo_path,
        "name": record.name,
    }


@attrs.frozen(kw_only=True)
class Remains:
    """One session of the journal, and what is needed to look after it.

    Attributes:
        record: the journal's row.
        host: the plugins.
        token: the credential for its repository, as for a session.
    """

    record: MachineRecord
    places: Places
    journal: Journal
    host: PluginHost
    token: TokenSource = attrs.field(default=None, repr=False)

    @property
    def registry(self) -> Registry:
        """The providers."""
        return Registry(self.host)

    async def find(self) -> str | None:
        """Return the machine's id: the journal's, or what the provider finds by the session's label.

        Raises:
            GitMachineError: the provider could not be asked.
        """
        if self.record.machine_id is not None:
            return self.record.machine_id
        return await self.look()

    async def look(self) -> str | None:
        """Have the provider look for the machine; one that cannot look finds none.

        Raises:
            GitMachineError: the provider could not be asked.
        """
        options = restore_options(self.record.options)
        with contextlib.suppress(UnsupportedOperation):
            async with self._deadline("find"):
                return await self.registry.find(self.record.provider, self.record.key, options)
        return None

    async def connect(self) -> Machine | None:
        """Return the machine, or None when there is none (any more).

        A machine that its provider cannot connect to ended with the process that made it.

        Raises:
            GitMachineError: the provider could not be asked.
        """
        machine_id = await self.find()
        if machine_id is None:
            return None
        options = restore_options(self.record.options)
        try:
            async with self._deadline("connect"):
                return await self.registry.connect(self.record.provider, machine_id, options)
        except (MachineLostError, UnsupportedOperation):
            return None

    @contextlib.asynccontextmanager
    async def _deadline(self, operation: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                yield
        except TimeoutError as error:
            raise MachineError(
                f"the provider {self.record.provider!r} did not answer within {CONNECT_SECONDS:g} s",
                machine_id=self.record.machine_id,
                provider=self.record.provider,
                operation=operation,
            ) from error

    async def session(self, machine: Machine | None) -> AsyncGitMachine:
        """Return the session over its machine, or over none; nothing is opened.

        Raises:
            GitMachineError: there is no machine, and the provider cannot make an object for one.
        """
        from gitmachine.session import AsyncGitMachine

        keywords = await session_keywords(self.places, self.record, strict=False)
        if machine is None:
            machine = self.registry.create(self.record.provider, restore_options(self.record.options))
        return AsyncGitMachine(machine, plugins=self.host, token=self.token, **keywords)

    @contextlib.asynccontextmanager
    async def opened(self, machine: Machine | None) -> AsyncIterator[Context]:
        """Have the session's parts open, under the key of its record; the machine is let go of afterwards.

        Raises:
            GitMachineError: as `session`.
        """
        from gitmachine.session import context_of

        ctx = context_of(await self.session(machine))
        await ctx.open_journal()
        try:
            ctx.key, ctx.branch, ctx.known_path = self.record.key, self.record.session, self.record.repo_path
            with contextlib.suppress(StateError):  # then nothing is known of the start, and more is taken for work
                await ctx.recall()
            ctx.open_transport()
            yield ctx
        finally:
            try:
                if machine is not None:
                    await ctx.machine.close()
            finally:
                await ctx.close_state()
