"""The warm channel without a provider: a shell of this host at the other end of two pipes.

`ShellDuplex` is what a provider would write over its connection; `ChannelMachine` is a machine that runs everything
through it and keeps files on this host. It isolates nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gitmachine.errors import MachineError, MachineLostError
from gitmachine.execution import ExecRequest, ExecResult, Process
from gitmachine.machine import Capability
from gitmachine.machines.channel import (
    ChannelLostError,
    Receiver,
    WarmPool,
    freeze_script,
    kill_script,
    machine_mark,
    thaw_script,
)
from gitmachine.testing import FakeMachine

SHELLS: dict[str, tuple[str, ...]] = {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}


def with_shell(path: str, shell: Sequence[str], folder: Path) -> str:
    """Return a search path on which ``sh`` is this shell, by a link in a folder of the caller's."""
    folder.mkdir(exist_ok=True)
    link = folder / "sh"
    if not link.is_symlink():
        link.symlink_to(shutil.which(shell[0]) or shell[0])
    return f"{folder}:{path}"


class ShellDuplex(asyncio.SubprocessProtocol):
    """A stream to a shell that runs as a process of this host."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._transport: asyncio.SubprocessTransport | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._exited = asyncio.Event()
        self._open = {1, 2}

    @classmethod
    async def start(cls, receiver: Receiver, argv: Sequence[str], env: dict[str, str]) -> ShellDuplex:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.subprocess_exec(lambda: cls(receiver), *argv, env=env, start_new_session=True, cwd="/")
        return protocol

    @property
    def pid(self) -> int:
        assert self._transport is not None
        return self._transport.get_pid()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._receiver.feed(1 if fd == 1 else 2, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        if fd == 0:
            self._room.set()
            return
        self._open.discard(fd)
        if not self._open:
            self._receiver.ended()

    def process_exited(self) -> None:
        self._exited.set()
        # As dockerd and sshd do: a child that holds the outputs does not keep the stream alive for long.
        asyncio.get_running_loop().call_later(0.5, self._receiver.ended)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def write(self, data: bytes) -> None:
        pipe = self._pipe(0)
        if pipe is not None and not pipe.is_closing():
            pipe.write(data)

    async def drain(self) -> None:
        await self._room.wait()

    def pause_reading(self) -> None:
        for fd in self._open:
            self._pipe(fd).pause_reading()

    def resume_reading(self) -> None:
        for fd in self._open:
            self._pipe(fd).resume_reading()

    def _pipe(self, fd: int):
        assert self._transport is not None
        return self._transport.get_pipe_transport(fd)

    async def close(self) -> None:
        """End the shell's input; a shell that does not exit by itself is busy, and stays with its command."""
        assert self._transport is not None
        try:
            pipe = self._pipe(0)
            if pipe is not None:
                pipe.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._exited.wait()
            if not self._exited.is_set():
                for waiting in _waiting_below(self.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(waiting, signal.SIGKILL)  # stopped, it would not see the end of its input
                self._transport.kill()
                async with asyncio.timeout(30):
                    await self._exited.wait()
        finally:
            self._transport.close()


def _waiting_below(shell: int) -> list[int]:
    """Return the process that waits for a command in a shell, if there is one."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return [int(pid) for pid in children if b"-s" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    return []


class ChannelMachine(FakeMachine):
    """The fake machine, except that its commands go through the channel; what that cannot serve goes the fake's way."""

    provider: ClassVar[str] = "channel"
    shell: ClassVar[tuple[str, ...]] = SHELLS["dash"]
    limit = 16

    def __init__(self, **keywords) -> None:
        super().__init__(**keywords)
        self.pool: WarmPool | None = None
        self.duplexes: list[ShellDuplex] = []
        self.plain: list[ExecRequest] = []

    def _adopt(self, body) -> None:
        super()._adopt(body)
        self.pool, self.duplexes, self.plain = None, [], []

    def _channel(self) -> WarmPool:
        self._running("execute")
        if self.pool is None:
            self.pool = WarmPool(
                self.connect_shell,
                plain=self.launch_plain,
                judge=self.judge,
                mark=machine_mark(self.id or ""),
                limit=self.limit,
            )
        return self.pool

    async def connect_shell(self, receiver: Receiver) -> ShellDuplex:
        body = self._running("execute")
        path = with_shell(self._search_path, self.shell, body.root / "shell")
        env = {"PATH": path, "HOME": self.workdir, "LANG": "C.UTF-8"}
        duplex = await ShellDuplex.start(receiver, self.shell, env)
        self.duplexes.append(duplex)
        body.tree.add(duplex.pid)
        return duplex

    async def launch_plain(self, request: ExecRequest) -> Process:
        self.plain.append(request)
        return await self.launch(request)

    async def judge(self, error: ChannelLostError) -> Exception:
        body = self._body
        if body is None or body.dead is not None:
            return MachineLostError(f"the machine is gone: {error}", machine_id=self.id, provider=self.provider)
        return MachineError(str(error), machine_id=self.id, provider=self.provider)

    def _cwd(self, request: ExecRequest) -> str:
        return str(Path(self.workdir, request.cwd or ""))

    async def execute(self, request: ExecRequest) -> ExecResult:
        if request.user is not None:
            raise self.unsupported(f"run commands as {request.user!r}", Capability.USER)
        self.requests.append(request)
        return await self._channel().execute(request, cwd=self._cwd(request), env=request.env)

    async def spawn(self, request: ExecRequest) -> Process:
        if request.user is not None:
            raise self.unsupported(f"run commands as {request.user!r}", Capability.USER)
        return await self._channel().spawn(request, cwd=self._cwd(request), env=request.env)

    async def _script(self, text: str) -> None:
        """Run a script as a provider would that has only another connection to the same machine."""
        argv = [*self.shell, "-c", text]
        await asyncio.to_thread(subprocess.run, argv, check=True, timeout=60, stdin=subprocess.DEVNULL)

    @property
    def _mark(self) -> str:
        return machine_mark(self.id or "")

    @property
    def _record(self) -> str:
        body = self._running("pause")
        return str(body.root / "it's frozen")

    async def pause(self) -> None:
        if self.pool is not None:
            self.pool.pause()
        await self._script(freeze_script(self._mark, self._record))
        await super().pause()

    async def resume(self) -> None:
        await super().resume()
        await self._script(thaw_script(self._record))
        if self.pool is not None:
            self.pool.resume()

    async def terminate_processes(self) -> None:
        await self._channel().kill_everything()
        await super().terminate_processes()

    async def die(self, reason: str = "it was killed") -> None:
        mark = self._mark
        await super().die(reason)
        await self._script(kill_script(mark))

    async def stop(self) -> None:
        if self._body is not None:
            await self._script(kill_script(self._mark))
        await self._let_go()
        await super().stop()

    async def close(self) -> None:
        await self._let_go()
        await super().close()

    async def _let_go(self) -> None:
        pool, self.pool = self.pool, None
        if pool is not None:
            await pool.close()
