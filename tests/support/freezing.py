"""A machine of real processes that can really be frozen, and that hangs or fails on cue."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from gitmachine.execution import ExecRequest, Process
from gitmachine.machine import Capability, Host, MachineState
from gitmachine.machines.managed import Deadlines
from support.machines import StreamMachine

QUICK = Deadlines(
    start=0.2, pause=0.2, resume=0.2, stop=0.2, files=0.2, spawn=0.2, execute_margin=0.2, close=0.2, cancel=0.2
)


class FreezingMachine(StreamMachine):
    """Processes of this host; pause sends SIGSTOP to their groups.

    `faults` maps an operation to what happens instead of it: "hang", "hang for ever" (its cancellation is ignored too),
    or an exception to raise.
    """

    provider = "freezing"
    capabilities = StreamMachine.capabilities | {
        Capability.PAUSE,
        Capability.PORTS,
        Capability.QUIESCE,
        Capability.USER,
    }

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.faults: dict[str, str | Exception] = {}
        self.calls: list[str] = []
        self.release = asyncio.Event()

    async def _called(self, operation: str) -> None:
        self.calls.append(operation)
        fault = self.faults.get(operation)
        if isinstance(fault, Exception):
            raise fault
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "hang for ever":
            while not self.release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.release.wait()
            raise asyncio.CancelledError

    async def start(self) -> None:
        await self._called("start")
        await super().start()

    async def stop(self) -> None:
        await self._called("stop")
        await super().stop()

    async def pause(self) -> None:
        await self._called("pause")
        self._signal(signal.SIGSTOP)
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        await self._called("resume")
        self._signal(signal.SIGCONT)
        self._state = MachineState.RUNNING

    def _signal(self, number: int) -> None:
        for process in self.live:
            process.signal(number)

    async def spawn(self, request: ExecRequest) -> Process:
        await self._called("spawn")
        # Cancelled while it connects the pipes, asyncio kills the shell only and waits for all who hold the pipes.
        making = asyncio.ensure_future(super().spawn(request))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            process = await making
            await process.kill()
            raise

    async def read_file(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        await self._called("read_file")
        return await super().read_file(path, max_bytes=max_bytes)

    async def write_file(self, path: str, data: bytes | str) -> None:
        await self._called("write_file")
        await super().write_file(path, data)

    async def list_files(self, path: str = ".") -> list[str]:
        await self._called("list_files")
        return await super().list_files(path)

    async def get_host(self, port: int) -> Host:
        await self._called("get_host")
        return Host(f"127.0.0.1:{port}")

    async def terminate_processes(self) -> None:
        await self._called("terminate_processes")
        for process in self.live:
            await process.end()

    async def close(self) -> None:
        await self._called("close")

    def die(self) -> None:
        """End without being asked."""
        self._state = MachineState.STOPPED

    async def wipe(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.release.set()
        for process in self.live:
            await process.end()
