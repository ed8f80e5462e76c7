"""Faults on demand: a wrapper that makes any machine fail the way networks, disks and hosts fail."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from gitmachine.archives import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES
from gitmachine.errors import MachineLostError, file_error
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Host, Machine, MachineState
from gitmachine.testing.faulty_process import FaultyProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gitmachine.archives import Transfer

__all__ = ["FaultyMachine", "Operation"]

T = TypeVar("T")

Operation = Literal[
    "start",
    "stop",
    "pause",
    "resume",
    "execute",
    "spawn",
    "read_file",
    "write_file",
    "list_files",
    "upload",
    "download",
    "get_host",
    "snapshot",
    "snapshots",
    "delete_snapshot",
    "fork",
    "terminate_processes",
    "refresh",
    "close",
]


@attrs.define
class _Plan:
    """What befalls the calls of one operation; the first `skip` ones are spared."""

    skip: int
    times: int | None
    act: Callable[[], Awaitable[None]]


class FaultyMachine(Machine):
    """Passes everything to the machine inside, except for the faults it was told to have.

    ::

        machine = FaultyMachine(FakeMachine())
        machine.cut_output(after_bytes=1000)      # the next command's connection breaks in mid-output
        machine.hang("read_file")                 # no answer, ever
        machine.fill_disk(free_bytes=0)           # ENOSPC
        machine.slow("write_file", seconds=2)
        machine.die_at("execute", skip=3)         # the fourth command finds the machine gone
        await machine.die()                       # gone now, with everything that runs

    Attributes:
        calls: how often each operation was asked for.
    """

    def __init__(self, machine: Machine) -> None:
        """Wrap `machine`, which nobody else should call from now on."""
        self.inner = machine
        self.calls: Counter[str] = Counter()
        self._plans: dict[str, list[_Plan]] = {}
        self._cuts: list[int] = []
        self._free_bytes: int | None = None
        self._dead: MachineLostError | None = None
        self._lost = asyncio.Event()

    # Faults

    def cut_output(self, after_bytes: int, *, times: int = 1) -> None:
        """Break the connection to the next command that prints so much, when so much of its output has arrived.

        The machine itself lives on: what breaks is the way to it. Commands that print less are spared.
        """
        self._cuts += [after_bytes] * times

    def hang(self, operation: Operation, *, skip: int = 0, times: int | None = 1) -> None:
        """Leave calls without an answer until they are cancelled."""

        async def act() -> None:
            await asyncio.get_running_loop().create_future()

        self._plan(operation, skip, times, act)

    def slow(self, operation: Operation, seconds: float, *, skip: int = 0, times: int | None = None) -> None:
        """Answer calls late."""

        async def act() -> None:
            await asyncio.sleep(seconds)

        self._plan(operation, skip, times, act)

    def fail(self, operation: Operation, error: Exception, *, skip: int = 0, times: int | None = 1) -> None:
        """Raise an exception instead of doing anything."""

        async def act() -> None:
            raise error

        self._plan(operation, skip, times, act)

    def fill_disk(self, free_bytes: int | None = 0) -> None:
        """Refuse files that are larger with ENOSPC; None makes room again."""
        self._free_bytes = free_bytes

    def die_at(self, operation: Operation, *, skip: int = 0) -> None:
        """Let the machine be gone when it is asked for this operation."""
        self._plan(operation, skip, 1, self.die)

    async def die(self, reason: str = "it was killed") -> None:
        """Be gone now: what runs is lost, and every later call (but `stop` and `close`) raises `MachineLostError`.

        The machine inside is stopped, so that nothing of it is left.
        """
        self._dead = MachineLostError(
            f"the machine is gone: {reason}", machine_id=self.inner.id, provider=self.inner.provider
        )
        self._lost.set()
        with contextlib.suppress(Exception):  # it is to be gone, whatever it says to that
            await self.inner.stop()

    def _plan(self, operation: str, skip: int, times: int | None, act: Callable[[], Awaitable[None]]) -> None:
        self._plans.setdefault(operation, []).append(_Plan(skip, times, act))

    async def _befall(self, operation: Operation) -> None:
        self.calls[operation] += 1
        if self._dead is not None:
            raise self._dead
        for plan in self._plans.get(operation, []):
            if plan.skip > 0:
                plan.skip -= 1
            elif plan.times is None or plan.times > 0:
                plan.times = None if plan.times is None else plan.times - 1
                await plan.act()
        if self._dead is not None:
            raise self._dead

    async def _pass(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """Do what was asked; a death in the middle of it is noticed."""
        await self._befall(operation)
        doing = asyncio.ensure_future(call())
        dying = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait([doing, dying], return_when=asyncio.FIRST_COMPLETED)
            if doing.done() and self._dead is None:
                return doing.result()
            raise self._dead or AssertionError("neither done nor dead")
        finally:
            dying.cancel()
            doing.cancel()
            await asyncio.gather(doing, dying, return_exceptions=True)

    # The machine

    @property
    def provider(self) -> str:  # type: ignore[override]  # a constant for a provider's class, here that of `inner`
        """The provider inside."""
        return self.inner.provider

    @property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]  # as for `provider`
        """What the machine inside can do."""
        return self.inner.capabilities

    @property
    def bulk_in(self) -> Literal["stream", "files"]:  # type: ignore[override]  # as for `provider`
        """How large input gets in cheaply."""
        return self.inner.bulk_in

    @property
    def workdir(self) -> str:  # type: ignore[override]  # as for `provider`
        """The directory that relative paths start from."""
        return self.inner.workdir

    @property
    def ports_last(self) -> bool:  # type: ignore[override]  # as for `provider`
        """Whether what `get_host` returns outlives this process."""
        return self.inner.ports_last

    @property
    def id(self) -> str | None:
        """The id of the machine inside; a dead one keeps it until it is stopped."""
        return self._dead.machine_id if self._dead is not None else self.inner.id

    @property
    def state(self) -> MachineState:
        """The state of the machine inside; nobody knows yet that it is dead."""
        return MachineState.RUNNING if self._dead is not None else self.inner.state

    async def start(self) -> None:
        """Make the machine."""
        await self._pass("start", self.inner.start)

    async def stop(self) -> None:
        """Remove the machine; works on a dead one."""
        if self._dead is None:
            await self._pass("stop", self.inner.stop)
        elif self.inner.state in {MachineState.RUNNING, MachineState.PAUSED}:
            await self.inner.stop()
        self._dead = None
        self._lost.clear()

    async def pause(self) -> None:
        """Freeze the machine."""
        await self._pass("pause", self.inner.pause)

    async def resume(self) -> None:
        """Continue the machine."""
        await self._pass("resume", self.inner.resume)

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        if Capability.SPAWN not in self.capabilities:
            return await self._pass("execute", lambda: self._execute_whole(request))
        await self._befall("execute")
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        return await run_process(await self._spawn(live), live)

    async def _execute_whole(self, request: ExecRequest) -> ExecResult:
        """Run a command of a machine without live processes; a cut takes all of its answer away."""
        if not self._cuts:
            return await self.inner.execute(request)
        silent = attrs.evolve(request, on_stdout=None, on_stderr=None, on_stdout_bytes=None, on_stderr_bytes=None)
        result = await self.inner.execute(silent)
        if self._cuts and max(len(result.stdout_bytes), len(result.stderr_bytes)) >= self._cuts[0]:
            raise self._cut()
        await _deliver(request, result)
        return result

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command."""
        await self._befall("spawn")
        return await self._spawn(request)

    async def _spawn(self, request: ExecRequest) -> Process:
        process = await self.inner.spawn(request)
        return FaultyProcess(
            process,
            limit=lambda: self._cuts[0] if self._cuts else None,
            cut=self._cut,
            machine_lost=self._lost,
            death=lambda: self._dead,
        )

    def _cut(self) -> MachineLostError:
        self._cuts.pop(0)
        return MachineLostError(
            "the connection to the machine was cut", machine_id=self.id, provider=self.provider, operation="execute"
        )

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        return await self._pass("read_file", lambda: self.inner.read_file(path, max_bytes=max_bytes))

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically, where it fits."""
        size = len(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        if self._free_bytes is not None and size > self._free_bytes:
            await self._befall("write_file")
            message = f"cannot write {path!r} in the machine: {os.strerror(errno.ENOSPC).lower()}"
            raise file_error(errno.ENOSPC, message, path=path, machine_id=self.id, provider=self.provider)
        await self._pass("write_file", lambda: self.inner.write_file(path, data))

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return await self._pass("list_files", lambda: self.inner.list_files(path))

    async def upload(self, source: Path, target: str) -> Transfer:
        """Copy something of this host into the machine, where it fits."""
        free = self._free_bytes
        if free is not None and await asyncio.to_thread(_total_bytes, source) > free:
            await self._befall("upload")
            message = f"cannot upload {target!r}: {os.strerror(errno.ENOSPC).lower()} in the machine"
            raise file_error(errno.ENOSPC, message, path=target, machine_id=self.id, provider=self.provider)
        return await self._pass("upload", lambda: self.inner.upload(source, target))

    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        """Copy something of the machine to this host."""
        limits = {"max_bytes": max_bytes, "max_entries": max_entries}
        return await self._pass("download", lambda: self.inner.download(source, target, **limits))

    async def get_host(self, port: int) -> Host:
        """Return where a port can be reached."""
        return await self._pass("get_host", lambda: self.inner.get_host(port))

    async def snapshot(self, name: str | None = None) -> str:
        """Save the disk."""
        return await self._pass("snapshot", lambda: self.inner.snapshot(name))

    async def snapshots(self) -> list[str]:
        """Return the snapshots of the machine inside."""
        return await self._pass("snapshots", self.inner.snapshots)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot."""
        await self._pass("delete_snapshot", lambda: self.inner.delete_snapshot(snapshot))

    async def fork(self, *, label: str | None = None) -> Machine:
        """Return a copy of the machine inside, which has no faults."""
        return await self._pass("fork", lambda: self.inner.fork(label=label))

    async def terminate_processes(self) -> None:
        """Kill what commands left behind."""
        await self._pass("terminate_processes", self.inner.terminate_processes)

    async def refresh(self) -> None:
        """Have the state be what the machine is."""
        await self._pass("refresh", self.inner.refresh)

    def hint(self, result: ExecResult) -> str | None:
        """Return the advice of the machine inside."""
        return self.inner.hint(result)

    async def close(self) -> None:
        """Let go of the machine."""
        if self._dead is None:
            await self._pass("close", self.inner.close)


def _total_bytes(source: Path) -> int:
    files = [source, *source.rglob("*")] if source.is_dir() else [source]
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


async def _deliver(request: ExecRequest, result: ExecResult) -> None:
    """Hand a whole output to the callbacks of a request."""
    calls: tuple[tuple[Callable[[Any], Any] | None, Any], ...] = (
        (request.on_stdout_bytes, result.stdout_bytes),
        (request.on_stdout, result.stdout),
        (request.on_stderr_bytes, result.stderr_bytes),
        (request.on_stderr, result.stderr),
    )
    for callback, output in calls:
        if callback is not None and output:
            answer = callback(output)
            if inspect.isawaitable(answer):
                await answer
