"""Answers that a fake machine gives instead of running a command."""

from __future__ import annotations

import asyncio
import re  # noqa: TC003  # attrs resolves annotations
import shlex
from collections.abc import AsyncIterator, Callable

import attrs

from gitmachine.execution import ExecRequest, ExecResult, Process

__all__ = ["Answer", "ScriptedAnswer", "ScriptedProcess", "command_text"]

Answer = ExecResult | str | int | Exception | Callable[[ExecRequest], ExecResult | str | int]
"""A result; or its standard output, its exit code, an exception to raise, or what computes one of these."""


def command_text(request: ExecRequest) -> str:
    """Return the command as one line of text: the script, or the quoted arguments."""
    return request.shell if request.shell is not None else shlex.join(request.argv or ())


@attrs.define(kw_only=True)
class ScriptedAnswer:
    """What to answer to commands that match a pattern, and how often (None: always)."""

    pattern: re.Pattern[str]
    answer: Answer
    times: int | None = None

    def take(self, request: ExecRequest) -> ExecResult | None:
        """Return the result for a request that matches, else None; raises the answer if it is an exception."""
        if self.times == 0 or self.pattern.search(command_text(request)) is None:
            return None
        if self.times is not None:
            self.times -= 1
        answer = self.answer(request) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return ExecResult(exit_code=0, stdout_bytes=answer.encode("utf-8", "surrogateescape"))
        return ExecResult(exit_code=answer) if isinstance(answer, int) else answer


class ScriptedProcess(Process):
    """A process that has ended already, with the output of a scripted result."""

    def __init__(self, result: ExecResult) -> None:
        self._result = result
        self._stdout = _once(result.stdout_bytes)
        self._stderr = _once(result.stderr_bytes)
        self._stdin = _Sink()

    @property
    def id(self) -> str:
        """No process at all."""
        return "0"

    @property
    def stdin(self) -> _Sink:
        """Takes everything."""
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """The scripted output."""
        return self._stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """The scripted errors."""
        return self._stderr

    async def wait(self) -> int:
        """Return the scripted exit code."""
        return self._result.exit_code

    async def kill(self) -> None:
        """Do nothing: it has ended."""


class _Sink:
    async def write(self, data: bytes) -> None:
        del data
        await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.sleep(0)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
