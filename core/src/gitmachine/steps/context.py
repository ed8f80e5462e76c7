"""What one session is made of while it lives; the steps work on it."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from gitmachine.errors import GitError, InvalidStateError, MachineLostError, StateError
from gitmachine.events import CommandFinished, CommandStarted, Event, MachineLost
from gitmachine.git.credentials import credential_source
from gitmachine.git.model import GitCredential
from gitmachine.git.redaction import Redactor
from gitmachine.git.transport import Transport, TransportSetup, make_transport
from gitmachine.git.workspace import Workspace
from gitmachine.machine import Capability, Machine, MachineState
from gitmachine.machines.managed import ManagedMachine
from gitmachine.plugins.dispatch import Dispatcher
from gitmachine.state.journal import Journal
from gitmachine.state.locks import MachineLock
from gitmachine.state.places import Places, make_private
from gitmachine.state.records import new_key
from gitmachine.steps.operations import Operation, Operations
from gitmachine.steps.recording import Recording
from gitmachine.steps.views import Views

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from gitmachine.git.model import Operation as Purpose
    from gitmachine.git.model import Survey
    from gitmachine.outcomes import LogEntry, Receipt, Withheld
    from gitmachine.plugins.host import PluginHost
    from gitmachine.session import AsyncGitMachine
    from gitmachine.steps.setup import SessionSetup

__all__ = ["Context", "Phase"]

SECRET_NAMES = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "CREDENTIAL", "PRIVATE_KEY")
"""A variable whose name holds one of these has a value that is redacted from events, logs and the journal."""

MIN_SECRET_LENGTH = 6
"""Shorter values are not redacted: they would blank out ordinary words."""

LOCK_SECONDS = 60.0
"""How long this process waits for another one that is changing the same machine."""

_E = TypeVar("_E", bound=Event)


class Phase(StrEnum):
    """Where the session is, finer than the machine's state."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ENDED = "ended"


class Context(Recording):
    """The parts and the progress of one session."""

    def __init__(
        self,
        *,
        setup: SessionSetup,
        machine: Machine,
        host: PluginHost,
        gm: AsyncGitMachine,
        options: Mapping[str, Any],
    ) -> None:
        self.setup = setup
        self.gm = gm
        self.options = dict(options)
        self._workspace: Workspace | None = None
        self.take(machine)
        self.redactor = Redactor()
        self.views = Views(gm)
        self.dispatcher = Dispatcher(host, redact=self.redactor.redact, blocking_view=self.views.blocking)
        self.operations = Operations(self.deliver)
        self.env = dict(setup.env)
        self.log: list[LogEntry] = []
        self.phase = Phase.NEW
        self.asleep = False
        """True while a paused machine runs only for a git verb: for everybody else it is paused."""
        self.receipt: Receipt | None = None
        self.renew()
        self._journal: Journal | None = None
        self._transport: Transport | None = None
        self._lock: MachineLock | None = None
        self._lock_depth = 0
        self._lost_event: MachineLost | None = None
        self.learn_secrets(setup.env)
        if isinstance(setup.token, str):
            self.redactor.add(setup.token)

    def take(self, machine: Machine) -> None:
        """Work on this machine from now on."""
        self.inner = machine
        self.machine = ManagedMachine(machine, on_lost=self._lost)
        self._workspace = None

    def renew(self) -> None:
        """Forget the last start, for the next one."""
        self.key = new_key()
        self.attached = False
        self.branch = self.setup.session or f"gitmachine/{self.key}"
        self.start_sha: str | None = None
        self.created = False
        self.known_path: str | None = None
        """Where the journal says the repository is, for a machine that was taken over."""
        self._workspace = None
        self.published: str | None = None
        """The commit of the session branch that the remote last confirmed."""
        self.withheld: tuple[Withheld, ...] = ()
        """What the last automatic commit left out."""

    # -- parts ---------------------------------------------------------------------------------------------------

    async def open_journal(self) -> None:
        """Open the journal."""
        self.places = Places.default().ensure()
        self._journal = await Journal.aopen(self.places)

    def open_transport(self) -> None:
        """Make the transport and the lock for this session's key; nothing outside of this host is touched."""
        make_private(self.places.locks)
        self._lock = MachineLock(self.places.machine_lock(self.key))
        self._transport = make_transport(
            TransportSetup(
                repository=self.setup.repository,
                options=self.setup.git,
                credentials=credential_source(
                    self.setup.repository, self.setup.token, fallback=self._ask_plugins, redactor=self.redactor
                ),
                mirrors=make_private(self.places.mirrors),
                sessions=make_private(self.places.sessions),
                session_id=self.key,
                redactor=self.redactor,
            ),
            self.machine,
        )

    async def close_state(self) -> None:
        """Let go of the journal and the transport; both can be opened again."""
        transport, self._transport = self._transport, None
        journal, self._journal = self._journal, None
        try:
            if transport is not None:
                await transport.close()
        finally:
            if journal is not None:
                await journal.aclose()

    def _part(self, part: Any, operation: str) -> Any:
        if part is None:
            raise InvalidStateError(f"the session is not started: call start() before {operation}", operation=operation)
        return part

    @property
    def journal(self) -> Journal:  # type: ignore[override]  # opened late, so not a plain attribute
        """The journal of this host."""
        journal: Journal = self._part(self._journal, "this")
        return journal

    @property
    def transport(self) -> Transport:
        """The way between the machine, this host and the remote."""
        transport: Transport = self._part(self._transport, "this")
        return transport

    @property
    def workspace(self) -> Workspace:
        """The repository in the machine."""
        if self._workspace is None or self._workspace.path != self.path:
            # Asked too early (by a token callback, say) the path was not yet known.
            self._workspace = Workspace(
                self.machine.execute, self.path, self.setup.identity, redact=self.redactor.redact
            )
        return self._workspace

    @property
    def path(self) -> str:
        """The repository's path in the machine."""
        return self.setup.path or self.known_path or f"{self.machine.workdir.rstrip('/')}/repo"

    @property
    def state(self) -> MachineState:
        """The state as users see it: a paused machine stays paused while it runs only for a git verb."""
        if self.asleep:
            return MachineState.PAUSED
        if self.phase in {Phase.NEW, Phase.STARTING} and self.machine.state is not MachineState.RUNNING:
            return MachineState.IDLE
        return self.machine.state

    def learn_secrets(self, env: Mapping[str, str]) -> None:
        """Redact from now on the values of variables that look secret by name."""
        for name, value in env.items():
            if len(value) >= MIN_SECRET_LENGTH and any(part in name.upper() for part in SECRET_NAMES):
                self.redactor.add(value)

    async def _ask_plugins(self, purpose: Purpose) -> GitCredential | None:
        return await self.dispatcher.decide(
            "gitmachine_git_credentials",
            GitCredential,
            repository=self.setup.repository.display,
            operation=str(purpose),
        )

    # -- events --------------------------------------------------------------------------------------------------

    def event(self, cls: type[_E], **data: Any) -> _E:
        """Make an event about this session."""
        return cls(
            machine_id=self.machine.id,
            provider=self.inner.provider,
            repository=self.setup.repository.display,
            session=self.branch,
            name=self.setup.name,
            **data,
        )

    async def deliver(self, event: Event) -> None:
        """Tell the plugins and then `on_event`; no error of theirs is raised."""
        on_event = self.setup.on_event
        if on_event is None:
            await self.dispatcher.observe(event)
        else:
            await self.dispatcher.observe(event, lambda: on_event(event.event, event.data(), self.gm))

    @property
    def observes_commands(self) -> bool:
        """Whether anybody wants to know of commands."""
        hooks = (CommandStarted.hook(), CommandFinished.hook())
        return self.setup.on_event is not None or any(self.dispatcher.host.implementations(hook) for hook in hooks)

    def _lost(self, reason: str) -> None:
        self._lost_event = self.event(MachineLost, reason=self.redactor.redact(reason))

    async def announce_loss(self) -> None:
        """Deliver the event of a lost machine, once. It stays in the journal: it may still be there, with its work."""
        event, self._lost_event = self._lost_event, None
        if event is not None:
            await self.deliver(event)

    # -- the work ------------------------------------------------------------------------------------------------

    async def survey(self) -> Survey:
        """Find all work in the machine, with the ignored files that the settings count as work."""
        return await self.workspace.survey(keep_ignored=self.setup.git.keep_ignored)

    # -- who may act ---------------------------------------------------------------------------------------------

    def require_running(self, operation: str) -> None:
        """Raise unless commands may run now.

        Raises:
            MachineLostError: the machine is gone.
            InvalidStateError: names the state and what to call first.
        """
        if self.machine.lost is not None:
            raise MachineLostError(
                f"the machine is lost: {self.machine.lost}",
                machine_id=self.inner.id,
                provider=self.inner.provider,
                operation=operation,
            )
        advice = {
            MachineState.IDLE: "call start() first",
            MachineState.PAUSED: "call resume() first",
            MachineState.STOPPED: "call start() first",
        }
        state = self.state
        if self.asleep and self.operations.inside() is not None:
            return  # a callback of the git verb for which the machine runs
        if state is not MachineState.RUNNING:
            self._refuse(f"machine is {state}", advice[state], operation)
        if self.operations.inside() is not None:
            return
        if self.phase in {Phase.NEW, Phase.STARTING}:
            self._refuse("machine is starting", "wait until start() returned", operation)
        if self.phase is Phase.STOPPING:
            self._refuse("machine is stopping", "call start() once it has stopped", operation)

    def _refuse(self, what: str, advice: str, operation: str) -> None:
        raise InvalidStateError(
            f"{what}: {advice}", machine_id=self.machine.id, provider=self.inner.provider, operation=operation
        )

    @contextlib.asynccontextmanager
    async def exclusive(self, name: str, *, lifecycle: bool = False) -> AsyncIterator[Operation]:
        """Run an operation that changes the machine: alone in this process and among processes."""
        async with self.operations.hold(name, lifecycle=lifecycle) as operation:
            if self._lock is None or self._lock_depth:
                yield operation
                return
            async with self.locked(name):
                intent = await self.intend(name) if self._journal is not None else None
                try:
                    yield operation
                finally:
                    if intent is not None and self._journal is not None:
                        with contextlib.suppress(StateError):  # what was done counts, and is not half done for it
                            await self.journal.done(intent)

    @contextlib.asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Hold the machine's lock among processes."""
        assert self._lock is not None
        async with self._lock.exclusive(LOCK_SECONDS, what=name):
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1

    async def pass_lock(self, what: str) -> None:
        """Wait while another process changes the machine; this process's own operations do not count."""
        if self._lock is not None and not self._lock_depth:
            await self._lock.passed(LOCK_SECONDS, what=what)

    @contextlib.asynccontextmanager
    async def sharing(self, what: str) -> AsyncIterator[None]:
        """Keep other processes from changing the machine meanwhile; for what is short."""
        async with contextlib.AsyncExitStack() as held:
            if self._lock is not None and not self._lock_depth:
                await held.enter_async_context(self._lock.shared(LOCK_SECONDS, what=what))
            yield

    @contextlib.asynccontextmanager
    async def awake(self, operation: str) -> AsyncIterator[None]:
        """Have the machine running for a git verb; a paused one is paused again afterwards, without hooks or events."""
        if self.machine.state is not MachineState.PAUSED:
            self.require_running(operation)
            yield
            return
        self.asleep = True
        try:
            async with self.roused():
                yield
        finally:
            self.asleep = False

    @contextlib.asynccontextmanager
    async def roused(self) -> AsyncIterator[None]:
        """Have the machine running; a paused one is paused again afterwards."""
        if self.machine.state is not MachineState.PAUSED:
            yield
            return
        recorded = self._journal is not None and (self._transport is not None or self.known_path is not None)
        intent = await self.intend("wake") if recorded else None
        await self.machine.resume()
        try:
            yield
        finally:
            if self.machine.lost is None:
                await self._note_state()
                await self.machine.pause()
                if intent is not None:
                    await self.journal.done(intent)

    async def _note_state(self) -> None:
        """Record what is to be there again when the machine is resumed."""
        if self._journal is None:
            return
        with contextlib.suppress(GitError):  # then nothing can be compared; that the machine is paused matters more
            survey = await self.survey()
            head = survey.refs.get(f"refs/heads/{self.branch}")
            await self.journal.update_machine(self.key, head=head, tree=survey.tree)

    @property
    def unnamed(self) -> bool:
        """Whether nobody named the session branch."""
        return self.branch == f"gitmachine/{self.key}"

    @property
    def can_pause(self) -> bool:
        """Whether the machine declares that it can pause."""
        return Capability.PAUSE in self.machine.capabilities
