"""Machines that are broken in what they do with output, environment and background children."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import inspect
import os
import re
import signal
import termios
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs

from conformance.broken.registry import breaks
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake.body import Body
from gitmachine.testing.fake.tree import _processes


async def call(callback: Callable[[Any], Any], data: Any) -> None:
    answer = callback(data)
    if inspect.isawaitable(answer):
        await answer


class Streamed(FakeMachine):
    """Lets a subclass change the streams of a command that is executed."""

    async def execute(self, request: ExecRequest) -> ExecResult:
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        process = await self.launch(live)
        if hasattr(process, "_child"):
            process._stdout = self.stream(process._stdout)  # type: ignore[attr-defined]
        return await run_process(process, live)

    def stream(self, source: Any) -> Any:
        return source


class Stream:
    """A stream that is changed on its way; passes everything else on."""

    def __init__(self, source: Any, change: Callable[[Any], AsyncIterator[bytes]]) -> None:
        self._source = source
        self._changed = change(source)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


@breaks("streams", "standard output is")
class MovesErrorsToOutput(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if result.ok and result.stderr_bytes.count(b"\n") >= 2 and b"\0" not in result.stderr_bytes:
            return attrs.evolve(result, stdout_bytes=result.stdout_bytes + result.stderr_bytes, stderr_bytes=b"")
        return result


@breaks("bytes", "the output")
class StripsFinalNewlines(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if result.stdout_bytes.endswith(b"\n\n"):
            return attrs.evolve(result, stdout_bytes=result.stdout_bytes.rstrip(b"\n") + b"\n")
        return result


@breaks("order", "20000 lines arrived", also={"transfer-big"})
class SwapsPieces(Streamed):
    """A file that is downloaded comes as output."""

    def stream(self, source: Any) -> Any:
        async def swapped(stream: Any) -> AsyncIterator[bytes]:
            held, count = None, 0
            async for data in stream:
                count += len(data)
                if held is None and 100_000 < count < 200_000:
                    held = data
                    continue
                yield data
                if held is not None:
                    yield held
                    held, count = None, 1 << 40
            if held is not None:
                yield held

        return Stream(source, swapped)


@breaks("live-output", "output arrives while the command is running", hangs=True)
class BuffersTheBeginning(Streamed):
    def stream(self, source: Any) -> Any:
        async def buffered(stream: Any) -> AsyncIterator[bytes]:
            held: bytes | None = b""
            async for data in stream:
                if held is None:
                    yield data
                elif len(held + data) >= 64:
                    yield held + data
                    held = None
                else:
                    held += data
            if held:
                yield held

        return Stream(source, buffered)


@breaks("live-errors", "standard error arrives while the command is running", hangs=True)
class DeliversErrorsAtTheEnd(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(attrs.evolve(request, on_stderr=None))
        if request.on_stderr is not None:
            await call(request.on_stderr, result.stderr)
        return result


@breaks("decoding", "callbacks got")
class DecodesPieceByPiece(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        on_text, on_bytes = request.on_stdout, request.on_stdout_bytes
        if on_text is None:
            return await super().execute(request)

        async def decode(data: bytes) -> None:
            if on_bytes is not None:
                await call(on_bytes, data)
            await call(on_text, data.decode("utf-8", "replace"))

        return await super().execute(attrs.evolve(request, on_stdout=None, on_stdout_bytes=decode))


@breaks("imitations", "was reported as")
class BelievesItsMarker(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        found = re.search(rb"EXITCODESTART(\d+)EXITCODEEND", result.stdout_bytes)
        if found is None:
            return result
        return attrs.evolve(result, exit_code=int(found[1]), stdout_bytes=result.stdout_bytes[: found.start()])


@breaks("truncation", "the end of the output is not there")
class KeepsOnlyTheBeginning(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        half = request.max_output_bytes // 2
        return attrs.evolve(result, stdout_bytes=result.stdout_bytes[:half]) if result.truncated else result


@breaks("flood", "memory grew by")
class KeepsEverything(Streamed):
    def stream(self, source: Any) -> Any:
        async def hoarded(stream: Any) -> AsyncIterator[bytes]:
            hoard = bytearray()
            async for data in stream:
                hoard += data
                yield data

        return Stream(source, hoarded)


@breaks("slow-callback", "did not end a command within", hangs=True)
class HasOneReaderForAll(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.reader = asyncio.Lock()

    async def execute(self, request: ExecRequest) -> ExecResult:
        async with self.reader:
            pass
        on_text = request.on_stdout
        if on_text is None:
            return await super().execute(request)

        async def alone(text: str) -> None:
            async with self.reader:
                await call(on_text, text)

        return await super().execute(attrs.evolve(request, on_stdout=alone))


@breaks("callback-error", "did not end within", hangs=True)
class SwallowsErrorsOfCallbacks(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        on_text = request.on_stdout
        if on_text is None:
            return await super().execute(request)

        async def quiet(text: str) -> None:
            with contextlib.suppress(Exception):
                await call(on_text, text)

        return await super().execute(attrs.evolve(request, on_stdout=quiet))


# Environment


class WithEnvironment(FakeMachine):
    def environment(self, request: ExecRequest) -> dict[str, str]:
        return self.changed(super().environment(request), dict(request.env))

    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        raise AssertionError("a subclass says")


@breaks("env-exact", "the value .* arrived as b'.*fake-machine")
class ExpandsValues(WithEnvironment):
    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        return {name: value.replace("$HOME", whole["HOME"]) for name, value in whole.items()}


@breaks("env-large", "a value of")
class CutsValues(WithEnvironment):
    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        return {name: value[:65_536] for name, value in whole.items()}


@breaks("env-private", "are seen by the next")
class RemembersVariables(WithEnvironment):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, str] = {}

    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        self.kept.update({name: value for name, value in given.items() if not name.startswith("GIT_")})
        return {**self.kept, **whole}


@breaks("env-names", "was neither refused nor did it arrive")
class DropsOddNames(WithEnvironment):
    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in whole.items() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)}


@breaks("env-client", "is seen by commands in the machine")
class PassesTheClientsEnvironmentOn(WithEnvironment):
    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        return {**os.environ, **whole}


@breaks("env-basic", "a script that should succeed")
class HasNoHome(WithEnvironment):
    def changed(self, whole: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        return {**whole, "HOME": "/nonexistent", **given}


# Background


@breaks("background-returns", "did not end", hangs=True)
class WaitsForTheErrorsToEnd(FakeMachine):
    async def launch(self, request: ExecRequest) -> Process:
        process = await super().launch(request)
        if hasattr(process, "_stderr") and hasattr(process._stderr, "finish"):
            process._stderr.finish = lambda: None
        return process


class ImpatientBody(Body):
    late = 0

    def late_output(self, data: bytes) -> None:
        self.late += len(data)

    def _drain(self, fd: int) -> None:
        # A pipe holds 64 KiB: whatever the child is ahead of us, it has not written all of its 120 kB.
        waiting = int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), "little")
        if self.late + waiting > 32_768:
            self._abandon(fd)
        else:
            super()._drain(fd)


@breaks("background-lives", "goes on after its command was over", hangs=True)
class ClosesThePipesOfChildren(FakeMachine):
    def make_body(self) -> Body:
        return ImpatientBody(self._root)


class LateBody(Body):
    late = b""

    def late_output(self, data: bytes) -> None:
        self.late += data


@breaks("background-late", "got the output 'late")
class DeliversLateOutputToTheNext(FakeMachine):
    def make_body(self) -> Body:
        return LateBody(self._root)

    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        body = self._body
        if isinstance(body, LateBody) and len(body.late) < 1000:
            late, body.late = body.late, b""
            return attrs.evolve(result, stdout_bytes=late + result.stdout_bytes)
        return result


@breaks(
    "background-detached", "a detached child goes on", hangs=True, also={"run-output", "run-taken-over", "run-paused"}
)
class CleansUpDetachedChildren(FakeMachine):
    """A detached run is a detached child."""

    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if self._body is not None and self._body.dead is None:
            await self.until_started(request)
            tree, table = self._body.tree, _processes()
            for pid in tree._everything(table):
                if pid in table and table[pid].session == pid and pid not in tree._leaders:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        return result

    async def until_started(self, request: ExecRequest) -> None:
        """A child needs a moment to become a session's leader."""
        if "setsid" not in " ".join(request.command) or self._body is None:
            return
        for _ in range(200):
            table = _processes()
            tree = self._body.tree
            if any(table[p].session == p and p not in tree._leaders for p in tree._everything(table) if p in table):
                return
            await asyncio.sleep(0.01)
