"""Machines whose terminals are not like those at a desk."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator
from typing import Any

import attrs

from conformance.broken.output import Stream
from conformance.broken.registry import breaks
from gitmachine.execution import ExecRequest, Process, TerminalSize
from gitmachine.machine import Capability
from gitmachine.testing import FakeMachine

TERMINALS = {"terminal-program", "terminal-size", "terminal-keys", "terminal-complete", "terminal-kill"}


class OnTerminals(FakeMachine):
    """Changes commands on a terminal, and only those."""

    async def spawn(self, request: ExecRequest) -> Process:
        if request.terminal is None:
            return await super().spawn(request)
        return self.changed(await super().spawn(self.asked(request)))

    def asked(self, request: ExecRequest) -> ExecRequest:
        return request

    def changed(self, process: Any) -> Any:
        return process


@breaks("can-open-terminal", "printed b''", also=TERMINALS - {"terminal-program", "terminal-complete"})
class CallsPipesATerminal(OnTerminals):
    """Without a terminal nothing of a terminal works."""

    def asked(self, request: ExecRequest) -> ExecRequest:
        return attrs.evolve(request, terminal=None, open_stdin=True)


@breaks("can-open-terminal", "it was not refused")
class GivesPipesUndeclared(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.capabilities -= {Capability.PTY}

    async def spawn(self, request: ExecRequest) -> Process:
        return await super().spawn(attrs.evolve(request, terminal=None))


@breaks("terminal-program", "the arguments arrived as")
class JoinsArguments(OnTerminals):
    def asked(self, request: ExecRequest) -> ExecRequest:
        if request.argv is None:
            return request
        return attrs.evolve(request, argv=None, shell=" ".join(shlex.quote(word) for word in request.argv if word))


@breaks("terminal-size", "resized to 50 rows of 140")
class ResizesTheWrongWayRound(OnTerminals):
    def changed(self, process: Any) -> Any:
        resize = process.resize

        async def swapped(size: TerminalSize) -> None:
            await resize(TerminalSize(columns=size.rows, rows=size.columns))

        process.resize = swapped
        return process


@breaks("terminal-keys", "after Ctrl-C the program printed")
class KillsAtCtrlC(OnTerminals):
    def changed(self, process: Any) -> Any:
        write = process.stdin.write

        async def typed(data: bytes) -> None:
            if b"\x03" in data:
                await process.kill()
            else:
                await write(data)

        process.stdin.write = typed
        return process


@breaks("terminal-complete", "bytes were written")
class EndsWithTheProgram(OnTerminals):
    def changed(self, process: Any) -> Any:
        async def cut(stream: Any) -> AsyncIterator[bytes]:
            async for data in stream:
                yield data.removesuffix(b"end\r\n")

        process._stdout = Stream(process._stdout, cut)
        return process


@breaks("terminal-kill", "a child goes on after")
class HangsUpOnly(OnTerminals):
    def changed(self, process: Any) -> Any:
        async def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process._child.pid, signal.SIGKILL)

        process.kill = kill
        return process
