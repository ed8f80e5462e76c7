"""Machines over which git does not work as it should."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

from conformance.broken.output import Stream
from conformance.broken.registry import breaks
from gitmachine.errors import MachineError
from gitmachine.execution import ExecRequest, ExecResult, Process
from gitmachine.machine import DEFAULT_MAX_READ_BYTES
from gitmachine.testing import FakeMachine


class Configured(FakeMachine):
    """An image with a git configuration of its own."""

    config: str

    async def start(self) -> None:
        await super().start()
        Path(self.workdir, ".gitconfig").write_text(self.config)


@breaks("git-checkout", "expected the file, a clean status and the branch")
class HasNoSymlinks(Configured):
    config = "[core]\n\tsymlinks = false\n"


@breaks("git-work", "a file with CR LF arrived as")
class NormalisesLineEnds(Configured):
    config = "[core]\n\tautocrlf = input\n"


@breaks("git-large", "could not be brought out of the machine")
class CutsLongStreams(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process: Any = await super().spawn(request)

        async def cut(stream: Any) -> AsyncIterator[bytes]:
            count = 0
            async for data in stream:
                count += len(data)
                if count < 8 << 20:
                    yield data

        process._stdout = Stream(process._stdout, cut)
        return process


@breaks("git-paused", "cannot be resumed a fourth time")
class ResumesThreeTimes(FakeMachine):
    resumes = 0

    async def resume(self) -> None:
        self.resumes += 1
        if self.resumes == 4:
            raise MachineError("it cannot be resumed a fourth time")
        await super().resume()


@breaks("git-nested", "is not among what was kept")
class TidiesNestedRepositories(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if not isinstance(request.stdin, AsyncIterable) and "rev-parse HEAD" in " ".join(request.command):
            for found in Path(self.workdir, "repo").glob("*/.git"):
                shutil.rmtree(found)
        return result


@breaks("git-late", "is on the remote as None")
class WritesIntoRepositoriesLater(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        if (Path(self.workdir, path).parent / ".git").is_dir():
            await asyncio.sleep(0)
            return
        await super().write_file(path, data)


@breaks("git-rejected", "a rejected push")
class CachesBySize(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[str, int], bytes] = {}

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        data = await super().read_file(path, max_bytes=max_bytes)
        return self.cache.setdefault((path, len(data)), data)


@breaks("git-credential", "the credential was found in the machine .direct.")
class RecordsInput(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        searching = ".kit-pattern" in " ".join(request.command)
        if isinstance(request.stdin, bytes) and 0 < len(request.stdin) < 10_000 and not searching:
            with Path(self.workdir, "audit.log").open("ab") as log:
                log.write(request.stdin + b"\n")
        return await super().execute(request)
