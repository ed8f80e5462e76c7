"""Machines whose capabilities are not what they declare, and machines that die badly."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import termios
from collections.abc import AsyncIterator
from typing import Any

import attrs

from conformance.broken.output import Stream
from conformance.broken.registry import breaks
from gitmachine.errors import MachineError, MachineLostError, UnsupportedOperation
from gitmachine.execution import ExecRequest, ExecResult, Process
from gitmachine.machine import Capability, Host
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake.tree import _processes


class Without(FakeMachine):
    """Does not declare one capability."""

    lacks: Capability

    def __init__(self) -> None:
        super().__init__()
        self.capabilities -= {self.lacks}


@breaks("can-spawn", "it was not refused")
class SpawnsUndeclared(Without):
    lacks = Capability.SPAWN

    async def spawn(self, request: ExecRequest) -> Process:
        return await self.launch(request)


@breaks(
    "can-spawn",
    "no live processes here",
    also={
        "can-end-input",
        "process-dialogue",
        "process-kill",
        "process-complete",
        "process-unread",
        "lost-process",
        "fault-cut",
        "git-checkout",
        "git-work",
        "git-large",
        "git-paused",
        "git-nested",
        "git-late",
        "git-rejected",
        "git-credential",
    },
)
class OnlyClaimsToSpawn(FakeMachine):
    """Everything that needs live processes fails with the claim, and git trusts it."""

    async def spawn(self, request: ExecRequest) -> Process:
        raise UnsupportedOperation("no live processes here")


@breaks("can-end-input", "already closed")
class MindsASecondClose(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process = await super().spawn(request)
        if request.open_stdin and isinstance(process, Process):
            closed: list[bool] = []
            close = process.stdin.close

            async def strict() -> None:
                if closed:
                    raise MachineError("already closed")
                closed.append(True)
                await close()

            process.stdin.close = strict  # type: ignore[method-assign]
        return process


@breaks("can-pause", "it was not refused")
class IgnoresUndeclaredPauses(Without):
    lacks = Capability.PAUSE

    async def pause(self) -> None:
        await asyncio.sleep(0)

    async def resume(self) -> None:
        await asyncio.sleep(0)


@breaks("can-change-user", "it was not refused")
class IgnoresTheUser(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        return await super().launch(attrs.evolve(request, user=None))


@breaks("can-reach-ports", "a server answers at", hangs=True)
class NamesTheWrongPort(FakeMachine):
    async def get_host(self, port: int) -> Host:
        return Host(f"127.0.0.1:{port + 1}")


@breaks("can-reach-ports", "it was not refused")
class NamesPortsUndeclared(Without):
    lacks = Capability.PORTS

    async def get_host(self, port: int) -> Host:
        return Host(f"127.0.0.1:{port}")


@breaks("can-quiesce", "goes on after terminate_processes")
class OverlooksDetachedProcesses(FakeMachine):
    async def terminate_processes(self) -> None:
        assert self._body is not None
        tree, table = self._body.tree, _processes()
        for pid in tree._everything(table):
            if pid in table and table[pid].session in tree._leaders:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@breaks("process-dialogue", "a process answers line", hangs=True)
class LosesTheSixteenthLine(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process = await super().spawn(request)
        if request.open_stdin:
            write, small = process.stdin.write, [0]

            async def lossy(data: bytes) -> None:
                small[0] += data.endswith(b"\n") and len(data) < 4
                if small[0] != 16:
                    await write(data)

            process.stdin.write = lossy  # type: ignore[method-assign]
        return process


@breaks("process-complete", "its standard error did not arrive")
class DropsErrorsOfProcesses(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process: Any = await super().spawn(request)

        async def nothing(stream: Any) -> AsyncIterator[bytes]:
            async for _ in stream:
                pass
            for data in ():
                yield data

        process._stderr = Stream(process._stderr, nothing)
        return process


@breaks("process-unread", "did not end a command within", hangs=True)
class StopsWhenABufferIsFull(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Any] = []

    async def spawn(self, request: ExecRequest) -> Process:
        process = await super().spawn(request)
        self.spawned.append(process)
        return process

    async def execute(self, request: ExecRequest) -> ExecResult:
        while any(self.full(process) for process in self.spawned):
            await asyncio.sleep(0.02)
        return await super().execute(request)

    def full(self, process: Any) -> bool:
        if process._over.is_set() or process._stdout.ended:
            return False
        waiting = fcntl.ioctl(process._stdout._fd, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(waiting, "little") > 40_000


# Deaths


@breaks("lost-command", "ends when its machine dies", hangs=True)
class HangsWhenItDies(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        before = self._body is not None and self._body.dead is None
        try:
            return await super().execute(request)
        except MachineLostError:
            if before:
                await asyncio.get_running_loop().create_future()
            raise


@breaks("lost-afterwards", "list_files on a dead machine raised nothing")
class ListsNothingWhenDead(FakeMachine):
    async def list_files(self, path: str = ".") -> list[str]:
        try:
            return await super().list_files(path)
        except MachineLostError:
            return []


@breaks("lost-process", "its output ends", hangs=True)
class NeverEndsItsStreams(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process: Any = await super().spawn(request)

        async def endless(stream: Any) -> AsyncIterator[bytes]:
            async for data in stream:
                yield data
            if self._body is not None and self._body.dead is not None:
                await asyncio.get_running_loop().create_future()

        process._stdout = Stream(process._stdout, endless)
        return process


@breaks("lost-stop", "cannot stop what is not there")
class CannotStopWhenDead(FakeMachine):
    async def stop(self) -> None:
        dead = self._body is not None and self._body.dead is not None
        await super().stop()
        if dead:
            raise MachineError("cannot stop what is not there")


@breaks("fault-cut", "that the command wrote once")
class RunsAgainAfterACut(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process: Any = await super().spawn(request)
        kill, seen = process.kill, [0]

        async def counted(stream: Any) -> AsyncIterator[bytes]:
            async for data in stream:
                seen[0] += len(data)
                yield data

        async def kill_and_try_again() -> None:
            over = process._over.is_set()
            await kill()
            if seen[0] > 500 and request.shell is not None and (not over or "runs" in request.shell):
                again = await self.launch(request)
                await asyncio.wait([asyncio.ensure_future(again.wait())], timeout=0.3)

        process._stdout = Stream(process._stdout, counted)
        process.kill = kill_and_try_again
        return process
