"""Machines that are broken in how they run commands."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterable
from pathlib import Path

import attrs

from conformance.broken.registry import breaks
from gitmachine.errors import MachineError
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.testing import FakeMachine


def with_argv(request: ExecRequest, *argv: str, **changes: object) -> ExecRequest:
    return attrs.evolve(request, argv=argv, shell=None, **changes)


@breaks("exit-codes", "a command that exited with 254")
class ReadsCodesAsSignedBytes(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        return attrs.evolve(result, exit_code=1) if result.exit_code >= 254 else result


@breaks("exit-code-streamed", "was reported as 0")
class SucceedsWithCallbacks(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        return attrs.evolve(result, exit_code=0) if request.on_stdout is not None else result


@breaks("exit-signal", "was reported as 247")
class WrapsSignalsAround(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        process = await self.launch(live)
        result = await run_process(process, live)
        code = process._child.returncode  # type: ignore[attr-defined]
        return attrs.evolve(result, exit_code=code & 0xFF) if code < 0 else result


@breaks("missing-program", "no such program")
class RaisesForMissingPrograms(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if shutil.which(request.command[0]) is None:
            raise MachineError(f"no such program: {request.command[0]}")
        return await super().launch(request)


@breaks("missing-directory", "was not refused")
class RunsElsewhere(FakeMachine):
    def _directory(self, cwd: str | None) -> Path:
        try:
            return super()._directory(cwd)
        except OSError:
            return Path(self.workdir)


@breaks("directory", "a command with cwd 'sub' ran in")
class IgnoresRelativeDirectories(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if request.cwd is not None and not request.cwd.startswith("/"):
            request = attrs.evolve(request, cwd=None)
        return await super().launch(request)


@breaks("directory-names", "a script that should succeed exited with")
class QuotesDirectoriesByHand(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if request.cwd is not None:
            self._directory(request.cwd)
            script = f'cd "{request.cwd}" && exec "$@"'
            request = with_argv(request, "sh", "-c", script, "sh", *request.command, cwd=None)
        return await super().launch(request)


@breaks("arguments", "the argument b'~' arrived as")
class ExpandsTildes(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if request.argv is not None:
            argv = tuple(self.workdir if word == "~" else word for word in request.argv)
            request = attrs.evolve(request, argv=argv)
        return await super().launch(request)


@breaks("arguments-large", "too long")
class LimitsArguments(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if any(len(word) > 100_000 for word in request.command):
            raise MachineError("an argument is too long")
        return await super().launch(request)


@breaks("scripts", "the script")
class AppendsToScripts(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        if request.shell is not None:
            request = attrs.evolve(request, shell=f"{request.shell} ")
        return await super().launch(request)


@breaks("input", "bytes of input came back")
class TranslatesInput(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        if isinstance(request.stdin, bytes) and len(request.stdin) > 100_000:
            request = attrs.evolve(request, stdin=request.stdin.replace(b"\r", b"\n"))
        return await super().execute(request)


@breaks("input-stream", "did not end a command within", hangs=True)
class CollectsInputFirst(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        if isinstance(request.stdin, AsyncIterable):
            request = attrs.evolve(request, stdin=b"".join([chunk async for chunk in request.stdin]))
        return await super().execute(request)


@breaks("input-empty", "did not end within", hangs=True)
class LeavesInputOpen(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        if request.stdin is None:
            return await run_process(await self.launch(attrs.evolve(request, open_stdin=True)), request)
        return await super().execute(request)


@breaks("input-unread", "nobody reads")
class MindsUnreadInput(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        if not isinstance(request.stdin, bytes):
            return await super().execute(request)
        live = attrs.evolve(request, open_stdin=True)
        process = await self.launch(live)
        write = process.stdin.write

        async def strict(data: bytes) -> None:
            try:
                await write(data)
            except BrokenPipeError as error:
                raise MachineError("nobody reads the input") from error

        process.stdin.write = strict  # type: ignore[method-assign]
        return await run_process(process, live)


@breaks("parallel", "did not end within", hangs=True)
class RunsFourAtATime(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.slots = asyncio.Semaphore(4)

    async def execute(self, request: ExecRequest) -> ExecResult:
        async with self.slots:
            return await super().execute(request)


@breaks("many", "of 20 got the output")
class MixesAnswersUnderLoad(FakeMachine):
    running = 0
    last = b""

    async def execute(self, request: ExecRequest) -> ExecResult:
        self.running += 1
        try:
            result = await super().execute(request)
            if self.running > 10:
                result, self.last = attrs.evolve(result, stdout_bytes=self.last), result.stdout_bytes
            return result
        finally:
            self.running -= 1
