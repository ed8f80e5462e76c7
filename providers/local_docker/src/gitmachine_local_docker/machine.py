"""The Docker machine: a container of any engine that Docker itself could use."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import aiodocker
import attrs

from gitmachine import InvalidStateError, MachineError
from gitmachine.machine import Capability, Host, MachineState
from gitmachine_local_docker._container import ROOT, Container
from gitmachine_local_docker._create import LABEL, WORKDIR_LABEL
from gitmachine_local_docker._endpoint import find_endpoint
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._errors import FOREIGN, PROVIDER, machine_errors
from gitmachine_local_docker._exec import ExecSpec
from gitmachine_local_docker._filing import FilingMachine
from gitmachine_local_docker._finding import find, inventory, remove, running
from gitmachine_local_docker._hints import hint_for, may_be_memory, out_of_memory
from gitmachine_local_docker._making import Making, examine
from gitmachine_local_docker._ports import host_of
from gitmachine_local_docker._snapshots import delete_snapshot, snapshots_of, take_snapshot
from gitmachine_local_docker._warm import warm_pool
from gitmachine_local_docker.config import DockerConfig, movable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine import ExecRequest, ExecResult, Process
    from gitmachine.machines.channel import WarmPool
    from gitmachine_local_docker._exec import DockerProcess
    from gitmachine_local_docker._images import OnProgress
    from gitmachine_local_docker._setup import Profile

__all__ = ["DockerMachine", "connect", "find", "inventory"]


class DockerMachine(FilingMachine):
    """Commands run in a container."""

    provider: ClassVar[str] = PROVIDER
    capabilities = frozenset(
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

    def __init__(self, config: DockerConfig | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Describe a machine.

        Args:
            config: how the container is made, and where.
            on_progress: called with the engine's messages while an image is pulled.
        """
        self.config = config if config is not None else DockerConfig()
        self.workdir = self.config.workdir
        self._on_progress = on_progress
        self._state = MachineState.IDLE
        self._id: str | None = None
        self._engine: Engine | None = None
        self._container: Container | None = None
        self._profile: Profile | None = None
        self._pool: WarmPool | None = None
        self._warming: asyncio.Task[bool] | None = None
        self._out_of_memory: deque[tuple[int, float]] = deque(maxlen=32)

    @classmethod
    async def connect(cls, machine_id: str, config: DockerConfig | None = None) -> DockerMachine:
        """Take over a container that exists, by its id or name; one of ours that has ended is started again.

        Raises:
            MachineLostError: there is none.
        """
        machine = cls(config)
        try:
            machine._adopt(await running(await machine._reach(), machine_id))
        except BaseException:
            await machine._let_go()
            raise
        return machine

    @property
    def id(self) -> str | None:
        """The container's id."""
        return self._id

    @property
    def state(self) -> MachineState:
        """The state as this object knows it."""
        return self._state

    @property
    def channel_problem(self) -> str:
        """Why commands do not go through the warm channel, or ""."""
        return self._pool.problem if self._pool is not None else ""

    # Life

    async def start(self) -> None:
        """Make a container and leave it running."""
        try:
            making = Making(await self._reach(), self.config, self.label, self._on_progress)
            made, self._profile = await making.make(self._warm_up)
        except BaseException:
            await self._let_go()
            raise
        self._id, self._container = made.id, made
        self._state = MachineState.RUNNING

    def _warm_up(self, container: Container, user: str) -> None:
        self._pool = warm_pool(container, user, self._plain)
        self._warming = asyncio.ensure_future(self._pool.warm())

    async def stop(self) -> None:
        """Kill the container and remove it, with its anonymous volumes."""
        if self._id is not None:
            engine = await self._reach()
            # The engine takes longer where shells are open; one that is in the middle of something ends with the rest.
            closing = asyncio.ensure_future(self._close_shells())
            try:
                with machine_errors(engine.dialer, self._id, "stop"):
                    await remove(engine, self._id)
            finally:
                await closing
        await self._let_go()
        self._id = self._profile = None
        self._state = MachineState.STOPPED

    async def pause(self) -> None:
        """Freeze every process, by the cgroup's freezer."""
        engine = await self._reach()
        async with self._nothing_starts(lasting=True):
            with machine_errors(engine.dialer, self._id, "pause"):
                try:
                    await engine.pause(self._known())
                except aiodocker.DockerError as error:
                    if "already paused" not in error.message:
                        raise
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        """Continue what `pause` froze."""
        engine = await self._reach()
        with machine_errors(engine.dialer, self._id, "resume"):
            try:
                await engine.unpause(self._known())
            except aiodocker.DockerError as error:
                if "is not paused" not in error.message:
                    raise
        self._state = MachineState.RUNNING
        if self._pool is not None:
            self._pool.resume()

    async def refresh(self) -> None:
        """Find out whether somebody else has paused or continued the container."""
        await self._reach()
        self._known()
        assert self._container is not None
        paused = await self._container.is_paused()
        self._state = MachineState.PAUSED if paused else MachineState.RUNNING
        if self._pool is not None:
            (self._pool.pause if paused else self._pool.resume)()

    async def close(self) -> None:
        """Let go of the container; it runs on."""
        await self._let_go()

    def _adopt(self, known: dict[str, Any]) -> None:
        """Take over a container that runs, or is paused."""
        self._id = str(known["Id"])
        labels = known["Config"].get("Labels") or {}
        self.label = labels.get(LABEL) or None
        self.workdir = labels.get(WORKDIR_LABEL) or self.config.workdir
        assert self._engine is not None
        self._container = Container(self._engine, self._id)
        self._state = MachineState.PAUSED if known["State"].get("Paused") else MachineState.RUNNING

    def _known(self) -> str:
        if self._id is None:
            raise InvalidStateError("the machine is not running: call start() first", provider=PROVIDER)
        return self._id

    async def _reach(self) -> Engine:
        """Return the connection to the engine; a new one where the loop of the old one is another."""
        engine = self._engine
        if engine is None or engine.loop is not asyncio.get_running_loop():
            engine = self._engine = Engine(await asyncio.to_thread(find_endpoint, self.config))
            self._pool = self._warming = None
            self._container = Container(engine, self._id) if self._id is not None else None
        return engine

    async def _let_go(self) -> None:
        if self._engine is not None and self._engine.loop is asyncio.get_running_loop():
            await self._close_shells()
            await self._engine.close()
        self._engine = self._container = self._pool = self._warming = None

    async def _close_shells(self) -> None:
        pool, self._pool, self._warming = self._pool, None, None
        if pool is not None:
            await pool.close()

    async def _ready(self) -> tuple[Container, Profile, WarmPool]:
        """Return what commands need; for a machine that was taken over it is found out now."""
        await self._reach()
        self._known()
        container = self._container
        assert container is not None
        if self._profile is None:
            with machine_errors(container.engine.dialer, container.id, "execute"):
                known = await container.engine.inspect(container.id)
            self._profile = await examine(container, known, self.config)
        if self._pool is None:
            self._pool = warm_pool(container, self._profile.user, self._plain)
        return container, self._profile, self._pool

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        container, about, pool = await self._ready()
        cwd, env = self._surroundings(request, about)
        if not pool.serves(request):
            result = await super().execute(request)
        else:
            await self._warmed()
            result = await pool.execute(request, cwd=cwd, env=env)
        if may_be_memory(result) and await container.ran_out_of_memory(time.monotonic() - result.duration):
            self._out_of_memory.append(_key(result))
        return result

    def hint(self, result: ExecResult) -> str | None:
        """Say so where a command failed for want of memory, of a network, or of something else that was not given."""
        if _key(result) in self._out_of_memory:
            return out_of_memory(self.config)
        return hint_for(result, self.config)

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command."""
        _, about, pool = await self._ready()
        if not pool.serves(request):
            return await self._plain(request)
        await self._warmed()
        cwd, env = self._surroundings(request, about)
        return await pool.spawn(request, cwd=cwd, env=env)

    async def _warmed(self) -> None:
        """Wait for the first shell: a command that did not would have another one opened."""
        if self._warming is not None:
            await asyncio.wait([self._warming])
            self._warming = None

    @contextlib.asynccontextmanager
    async def _nothing_starts(self, *, lasting: bool = False) -> AsyncIterator[None]:
        """Have the container frozen (a commit does so, too) only while no process of it is half started.

        Else the engine hangs in it for ever: containerd holds its lock until runc's child answers, which is frozen.

        Args:
            lasting: open no shell afterwards, either, unless it failed.
        """
        await self._warmed()
        container, pool = self._container, self._pool
        if pool is not None:
            pool.pause()
        done = False
        try:
            if pool is not None:
                await pool.opened()
            if container is None:
                yield
            else:
                async with container.starts.none():
                    yield
            done = True
        finally:
            if pool is not None and not (done and lasting):
                pool.resume()

    def _surroundings(self, request: ExecRequest, about: Profile) -> tuple[str, dict[str, str]]:
        env = dict(request.env)
        if request.terminal is not None:
            env.setdefault("TERM", "xterm-256color")
        if request.user is None or request.user == about.user:
            env.setdefault("HOME", about.home)
        return posixpath.join(self.workdir, request.cwd) if request.cwd is not None else self.workdir, env

    async def _plain(self, request: ExecRequest) -> DockerProcess:
        """Start a command by an exec of its own."""
        container, about, _ = await self._ready()
        cwd, env = self._surroundings(request, about)
        spec = ExecSpec(
            argv=request.command,
            cwd=cwd,
            env=env,
            user=request.user or about.user,
            stdin=request.open_stdin or request.terminal is not None,
            terminal=request.terminal,
        )
        return await container.spawn(spec)

    async def terminate_processes(self) -> None:
        """Kill every process but the container's first and the shells of the warm channel."""
        container, about, pool = await self._ready()
        await container.terminate(pool, able=about.uid == ROOT and pool.shell is not None)

    # Copies and ports

    async def get_host(self, port: int) -> Host:
        """Return where a port can be reached; see `ports` for those that are always."""
        engine, container = await self._reach(), self._known()
        with machine_errors(engine.dialer, container, "get_host"):
            return await host_of(engine, await engine.inspect(container), port)

    async def snapshot(self, name: str | None = None) -> str:
        """Make an image of the container's disk (not of its volumes), and return its name."""
        container, about, _ = await self._ready()
        async with self._nothing_starts():
            with machine_errors(container.engine.dialer, container.id, "snapshot"):
                return await take_snapshot(container.engine, container.id, about.user, name)

    async def snapshots(self) -> list[str]:
        """Return the names of the images that were made of this container, oldest first."""
        engine, container = await self._reach(), self._known()
        with machine_errors(engine.dialer, container, "snapshots"):
            return await snapshots_of(engine, container)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove an image that `snapshot` made."""
        engine = await self._reach()
        with machine_errors(engine.dialer, self._id, "delete_snapshot"):
            await delete_snapshot(engine, self._id, snapshot)

    async def fork(self, *, label: str | None = None) -> DockerMachine:
        """Return another container that begins as a copy of this one's disk; its image goes when it is stopped.

        Volumes with a name and directories of the host are shared; ports are published where the engine chooses.
        """
        container, about, _ = await self._ready()
        engine = container.engine
        async with self._nothing_starts():
            taking = asyncio.ensure_future(
                take_snapshot(engine, container.id, about.user, None, copy=True, label=label)
            )
            try:
                with machine_errors(engine.dialer, container.id, "fork"):
                    image = await asyncio.shield(taking)
            except asyncio.CancelledError:
                with contextlib.suppress(MachineError, *FOREIGN):
                    await engine.delete_image(await taking)
                raise
        config = attrs.evolve(
            self.config,
            image=image,
            pull="never",
            name=None,
            user=about.user,
            workdir=about.workdir,
            ports=tuple(movable(port) for port in self.config.ports),
        )
        made = DockerMachine(config, on_progress=self._on_progress)
        made.label = label
        try:
            await made.start()
        except BaseException:
            await made._let_go()
            await asyncio.shield(engine.delete_image(image))
            raise
        return made


def _key(result: ExecResult) -> tuple[int, float]:
    """Return what a result is known by, also when its output was cut since."""
    return result.exit_code, result.duration


async def connect(machine_id: str, config: DockerConfig | None = None) -> DockerMachine:
    """Take over a container that exists; see `DockerMachine.connect`."""
    return await DockerMachine.connect(machine_id, config)
