"""Small machines for tests: local processes in a directory, one without and one with live processes.

They isolate nothing. `FilesMachine` is the custom machine of about 40 lines that any user could write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from gitmachine.errors import CommandTimeoutError, file_error
from gitmachine.execution import ExecRequest, ExecResult, Process
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Machine, MachineState


class FilesMachine(Machine):
    """A machine without live processes: `execute`, `read_file`, `write_file`, `list_files`, and no more."""

    provider = "files"

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._state = MachineState.IDLE

    @property
    def id(self) -> str | None:
        return self.workdir if self._state in (MachineState.RUNNING, MachineState.PAUSED) else None

    @property
    def state(self) -> MachineState:
        return self._state

    async def start(self) -> None:
        self.workdir = tempfile.mkdtemp(prefix="machine-", dir=self._root)
        self._state = MachineState.RUNNING

    async def stop(self) -> None:
        shutil.rmtree(self.workdir, ignore_errors=True)
        self._state = MachineState.STOPPED

    def environment(self, request: ExecRequest) -> dict[str, str]:
        """What a command sees: nothing of the test's own environment but PATH."""
        return {"PATH": os.environ["PATH"], "HOME": self.workdir, "LANG": "C.UTF-8", **request.env}

    async def execute(self, request: ExecRequest) -> ExecResult:
        return await asyncio.to_thread(self._execute, request, await _all(request))

    def _execute(self, request: ExecRequest, stdin: bytes) -> ExecResult:
        where = Path(self.workdir, request.cwd or "")
        if not where.is_dir():
            raise file_error(2, f"no such directory in the machine: {where}", path=str(where))
        argv, env = request.command, self.environment(request)
        try:
            done = subprocess.run(
                argv, input=stdin, cwd=where, env=env, capture_output=True, timeout=request.timeout, check=False
            )
        except FileNotFoundError:
            return ExecResult(exit_code=127, stderr_bytes=b"not found\n")
        except subprocess.TimeoutExpired as error:
            raise CommandTimeoutError("timeout", result=ExecResult(exit_code=137, timed_out=True)) from error
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return ExecResult(exit_code=code, stdout_bytes=done.stdout, stderr_bytes=done.stderr)

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        file = Path(self.workdir, path)
        if not file.exists():
            raise file_error(2, f"no such file in the machine: {path}", path=path)
        if file.stat().st_size > max_bytes:
            raise file_error(27, f"larger than {max_bytes} bytes: {path}", path=path)
        return file.read_bytes()

    async def write_file(self, path: str, data: bytes | str) -> None:
        file = Path(self.workdir, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)

    async def list_files(self, path: str = ".") -> list[str]:
        return sorted(entry.name for entry in Path(self.workdir, path).iterdir())


async def _all(request: ExecRequest) -> bytes:
    if request.stdin is None or isinstance(request.stdin, bytes):
        return request.stdin or b""
    return b"".join([chunk async for chunk in request.stdin])


class StreamMachine(FilesMachine):
    """The same with live processes, so that everything can travel over their streams."""

    provider = "streams"
    capabilities = frozenset({Capability.SPAWN, Capability.STDIN_EOF})

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.spawned: list[tuple[str, ...]] = []
        self.live: list[LocalProcess] = []

    async def execute(self, request: ExecRequest) -> ExecResult:
        return await Machine.execute(self, request)

    async def spawn(self, request: ExecRequest) -> Process:
        where = Path(self.workdir, request.cwd or "")
        if not where.is_dir():
            raise file_error(2, f"no such directory in the machine: {where}", path=str(where))
        stdin = asyncio.subprocess.PIPE if request.open_stdin else asyncio.subprocess.DEVNULL
        pipe = asyncio.subprocess.PIPE
        argv, env = request.command, self.environment(request)
        self.spawned.append(argv)
        if shutil.which(argv[0], path=env["PATH"]) is None:
            argv = ("sh", "-c", "exit 127")
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=stdin, stdout=pipe, stderr=pipe, cwd=where, env=env, start_new_session=True
        )
        process = LocalProcess(child)
        self.live.append(process)
        return process

    async def stop(self) -> None:
        for process in self.live:
            await process.end()
        await super().stop()


class LocalProcess(Process):
    """An asyncio subprocess as a `Process`."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._stdin = _Input(child.stdin)

    @property
    def id(self) -> str:
        return str(self._child.pid)

    @property
    def stdin(self) -> _Input:
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        return _chunks(self._child.stdout)

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        return _chunks(self._child.stderr)

    async def wait(self) -> int:
        code = await self._child.wait()
        return code if code >= 0 else 128 - code

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Signal it and what it left behind in its group; never those that have its number after it.

        Numbers go round within a minute where much is tested. One is not given out again while a group bears it, so
        whoever has the number of a child that was waited for is a stranger, and then nothing is left of its group.
        """
        pid = self._child.pid
        if self._child.returncode is not None and Path(f"/proc/{pid}").exists():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)

    async def end(self) -> None:
        """Kill it and let go of its pipes, read or not."""
        await self.kill()
        await self._child.wait()
        self._child._transport.close()  # type: ignore[attr-defined]  # asyncio offers no other way


class _Input:
    def __init__(self, stream: asyncio.StreamWriter | None) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        assert self._stream is not None
        self._stream.write(data)
        await self._stream.drain()

    async def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


async def _chunks(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    assert stream is not None
    while data := await stream.read(65536):
        yield data
