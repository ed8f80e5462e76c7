"""The SSH machine: a directory of its own on a host, and every process that was started in it."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import attrs

from gitmachine import (
    AuthenticationError,
    ConfigError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
)
from gitmachine.errors import MachineFileNotFoundError
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Host, Machine, MachineState
from gitmachine_ssh import _scripts
from gitmachine_ssh._dial import where
from gitmachine_ssh._errors import PROVIDER, HostKeyError
from gitmachine_ssh._place import Place

if TYPE_CHECKING:
    from gitmachine import ExecRequest, ExecResult, Process
    from gitmachine_ssh._shells import Answer
    from gitmachine_ssh.config import SSHConfig

__all__ = ["SSHMachine", "connect", "find", "inventory"]

MACHINE_ID = re.compile(r"[0-9a-f]{16}")


class SSHMachine(Machine):
    """Commands run on a host with sshd, in a directory of their own, over one connection.

    A connection that is cut is no loss: what ran there is told `MachineUnreachableError`, nothing is run twice, and the
    next call connects again. The machine is lost when its directory is gone.
    """

    provider: ClassVar[str] = PROVIDER
    capabilities = frozenset(
        {
            Capability.SPAWN,
            Capability.STDIN_EOF,
            Capability.PAUSE,
            Capability.PTY,
            Capability.PORTS,
            Capability.QUIESCE,
        }
    )

    def __init__(self, config: SSHConfig) -> None:
        """Make a machine object; nothing is connected before `start`."""
        self.config = config
        self.workdir = ""
        self._state = MachineState.IDLE
        self._place: Place | None = None
        self._parent = ""
        self._id: str | None = None

    @classmethod
    async def connect(cls, machine_id: str, config: SSHConfig) -> SSHMachine:
        """Take over a machine that exists already.

        Raises:
            MachineLostError: it is gone, or never was.
            MachineUnreachableError: its host cannot be reached.
        """
        machine = cls(config)
        gone = MachineLostError(
            f"there is no machine {machine_id!r} in {config.base_dir} on {where(config)}",
            machine_id=machine_id,
            provider=PROVIDER,
            operation="connect",
        )
        if not MACHINE_ID.fullmatch(machine_id):
            raise gone
        place = Place(config)
        try:
            answer = await place.run(_scripts.look_script(config.base_dir, machine_id), "connect")
            if answer.status == _scripts.GONE:
                raise gone
            if answer.status != 0:
                raise place.failure("connect", answer)
            parent, state, label = answer.stdout.decode("utf-8", "surrogateescape").split("\n", 2)
            machine._adopt(place, parent, machine_id)
            machine.label = label or None
            machine._state = MachineState.PAUSED if state == "paused" else MachineState.RUNNING
        except BaseException:
            await asyncio.shield(place.close())
            raise
        return machine

    def _adopt(self, place: Place, parent: str, machine_id: str) -> None:
        self._parent, self._id = parent, machine_id
        place.enter(posixpath.join(parent, machine_id), machine_id)
        self._place = place
        self.workdir = posixpath.join(parent, machine_id, "home")

    @property
    def id(self) -> str | None:
        """Sixteen hexadecimal digits, from start to stop."""
        return self._id

    @property
    def state(self) -> MachineState:
        """The state as this object knows it."""
        return self._state

    # Life

    async def start(self) -> None:
        """Connect, look whether the host has what is needed, and make the machine's directory."""
        machine_id = secrets.token_hex(8)
        place = Place(self.config)
        try:
            try:
                parent = await self._make(place, machine_id)
            except (AuthenticationError, HostKeyError, ConfigError, MachineStartError):
                raise
            except MachineError as error:
                raise MachineStartError(
                    f"the machine did not start: {error}", provider=PROVIDER, operation="start"
                ) from error
        except BaseException:
            await asyncio.shield(place.close())
            raise
        self._adopt(place, parent, machine_id)
        try:
            await place.warm()
        except BaseException:
            with contextlib.suppress(MachineError):
                await asyncio.shield(self.stop())
            self._id, self._state = None, MachineState.IDLE
            raise
        self._state = MachineState.RUNNING

    async def _make(self, place: Place, machine_id: str) -> str:
        """Make the directory; return the one that it is in."""
        label = self.label or ""
        if "\0" in label:
            raise ConfigError(f"a label cannot hold a NUL character: {label!r}")
        script = _scripts.make_script(self.config.base_dir, machine_id, label, datetime.now(UTC).isoformat())
        making = asyncio.ensure_future(place.run(script, "start"))
        try:
            answer = await asyncio.shield(making)
        except asyncio.CancelledError:
            # What is made is known only when the script has ended; then it can be undone.
            with contextlib.suppress(MachineError):
                parent = _made(await making)
                if parent is not None:
                    await place.run(_scripts.remove_script(parent, machine_id), "start")
            raise
        parent = _made(answer)
        if parent is None:
            raise MachineStartError(
                f"{place.where} cannot have a machine: {_missing(answer.stdout.decode('utf-8', 'replace'))}"
                if answer.status == 3
                else f"the machine did not start: {place.failure('start', answer)}",
                provider=PROVIDER,
                operation="start",
            )
        return parent

    async def stop(self) -> None:
        """Kill every process and remove the directory."""
        place = self._place
        if place is not None and self._id is not None:
            place = await self._fresh(place)
            await place.stop(self._parent)
            await place.close()
        self._place, self._id = None, None
        self._state = MachineState.STOPPED

    async def pause(self) -> None:
        """Stop every process (SIGSTOP)."""
        await (await self._there()).pause()
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        """Continue what `pause` stopped (SIGCONT)."""
        await (await self._there()).resume()
        self._state = MachineState.RUNNING

    async def terminate_processes(self) -> None:
        """Kill every process of the machine, also those of commands that are running."""
        await (await self._there()).kill_everything()

    async def close(self) -> None:
        """Let go of the machine; commands that run in the foreground lose their client."""
        place, self._place = self._place, None
        if place is not None:
            await place.close()

    async def _there(self) -> Place:
        """Return the place, in this event loop."""
        if self._place is None:
            raise InvalidStateError(
                "the machine is not running: call start() first", machine_id=self._id, provider=PROVIDER
            )
        return await self._fresh(self._place)

    async def _fresh(self, place: Place) -> Place:
        if place.loop is asyncio.get_running_loop():
            return place
        place.abandon()
        fresh = Place(self.config)
        assert self._id is not None
        self._adopt(fresh, self._parent, self._id)
        return fresh

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        self._check_user(request)
        place = await self._there()
        if request.terminal is not None:
            return await super().execute(request)
        try:
            return await place.execute(self._full(request))
        except MachineFileNotFoundError as error:
            raise await place.judged(error) from error

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command and return the live process."""
        self._check_user(request)
        place = await self._there()
        try:
            return await place.spawn(self._full(request))
        except MachineFileNotFoundError as error:
            raise await place.judged(error) from error

    def _full(self, request: ExecRequest) -> ExecRequest:
        """Fill in what the machine adds to every command."""
        cwd = self.workdir if request.cwd is None else posixpath.join(self.workdir, request.cwd)
        env = {**self.config.env, **request.env} if self.config.env else request.env
        if request.shell is not None and self.config.shell != "sh":
            return attrs.evolve(request, cwd=cwd, env=env, shell=None, argv=(self.config.shell, "-c", request.shell))
        return attrs.evolve(request, cwd=cwd, env=env)

    def _check_user(self, request: ExecRequest) -> None:
        if request.user is not None:
            raise self.unsupported(f"run commands as {request.user!r}", Capability.USER)

    # Files and ports

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        return await (await self._there()).files.read(path, max_bytes)

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        await (await self._there()).files.write(path, content)

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return await (await self._there()).files.names(path)

    async def get_host(self, port: int) -> Host:
        """Return an address on 127.0.0.1 here that leads to a port of the host's loopback."""
        return await (await self._there()).ports.host(port)


def _made(answer: Answer) -> str | None:
    lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
    return lines[-1].removeprefix("made ") if lines and lines[-1].startswith("made ") else None


def _missing(said: str) -> str:
    """Put into words what the script found missing."""
    tools, other = [], []
    for line in said.splitlines():
        kind, _, what = line.partition(" ")
        if kind == "tool":
            tools.append(what)
        elif kind == "space":
            other.append(f"only {int(what) // 1024} MiB are free where machines are made: free some, or set base_dir")
        elif kind == "base":
            other.append(f"{what} cannot be made or written to: set base_dir to a directory of yours")
        else:
            other.append(f"the directory could not be made ({what or 'unknown'} KiB are free)")
    if tools:
        other.insert(0, f"{', '.join(tools)} {'is' if len(tools) == 1 else 'are'} not installed or not in PATH")
    return "; ".join(other)


async def connect(machine_id: str, config: SSHConfig) -> SSHMachine:
    """Take over an SSH machine that exists already; see `SSHMachine.connect`."""
    return await SSHMachine.connect(machine_id, config)


async def find(label: str, config: SSHConfig) -> str | None:
    """Return the id of the machine that a session labelled, or None."""
    return next((machine_id for machine_id, found in (await inventory(config)).items() if found == label), None)


async def inventory(config: SSHConfig) -> dict[str, str]:
    """Return the labels of all machines of this account that have one, by their ids."""
    place = Place(config)
    try:
        answer = await place.run(_scripts.inventory_script(config.base_dir), "inventory")
        if answer.status != 0:
            raise place.failure("inventory", answer)
    finally:
        await asyncio.shield(place.close())
    lines = answer.stdout.decode("ascii", "replace").splitlines()
    machines = {}
    for machine_id, digits in zip(lines[::2], lines[1::2], strict=False):
        label = bytes.fromhex(digits).decode("utf-8", "surrogateescape")
        if MACHINE_ID.fullmatch(machine_id) and label:
            machines[machine_id] = label
    return machines
