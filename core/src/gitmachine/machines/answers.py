"""What a machine answers, held against the contract: a provider's mistake is told as the provider's, at once."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from gitmachine.execution import ExecResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gitmachine.execution import Process

__all__ = ["asked", "bytes_owed", "process_owed", "result_owed", "shown"]

T = TypeVar("T")

_LONGEST_SHOWN = 80


async def asked(method: Callable[..., Awaitable[T]], *arguments: Any, **keywords: Any) -> T:
    """Call a method of a machine and return what it answers.

    Raises:
        TypeError: it is no coroutine function.
    """
    answer: Any = method(*arguments, **keywords)
    if not inspect.isawaitable(answer):
        raise TypeError(f"it has to be a coroutine function (async def): it returned {shown(answer)} at once")
    answered: T = await answer
    return answered


async def bytes_owed(method: Callable[..., Awaitable[bytes]], *arguments: Any, **keywords: Any) -> bytes:
    """Call a method of a machine and return its bytes. Raises TypeError as `asked` does, and for another answer."""
    answer: object = await asked(method, *arguments, **keywords)
    if not isinstance(answer, bytes | bytearray | memoryview):
        raise TypeError(f"it returned {shown(answer)}, and owes bytes")
    return bytes(answer)


def process_owed(answer: Process) -> Process:
    """Return a live process. Raises TypeError for what cannot be waited for."""
    if not hasattr(answer, "wait") or not hasattr(answer, "kill"):
        raise TypeError(f"it returned {shown(answer)}, and owes a Process")
    return answer


def result_owed(answer: object) -> ExecResult:
    """Return a command's result as the contract has it. Raises TypeError for another."""
    if not isinstance(answer, ExecResult):
        raise TypeError(f"it returned {shown(answer)}, and owes an ExecResult")
    for name in ("stdout_bytes", "stderr_bytes"):
        if not isinstance(getattr(answer, name), bytes):
            raise TypeError(f"{name} of its result is {shown(getattr(answer, name))}, and has to be bytes")
    code: object = answer.exit_code
    if not isinstance(code, int) or not 0 <= code <= 255:
        raise TypeError(f"exit_code of its result is {shown(code)}, and has to be 0 to 255 (128 + N for signal N)")
    return answer


def shown(value: object) -> str:
    """Return what a message shows of a value that should not be there."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
