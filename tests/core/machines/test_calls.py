"""One call to a provider: bounded, and its errors as ours.

Time budget: 10 s.
"""

from __future__ import annotations

import asyncio
import errno

import pytest

from gitmachine.clock import PausableClock
from gitmachine.errors import (
    GitMachineError,
    MachineError,
    MachineFileNotFoundError,
    MachineLostError,
    MachinePermissionError,
    MachineStartError,
)
from gitmachine.machines.calls import DeadlineError, bounded, in_our_terms


async def call(coroutine, seconds=60.0, cancel_seconds=60.0):
    return await bounded(coroutine, seconds, clock=PausableClock(), cancel_seconds=cancel_seconds)


async def test_a_call_that_ends_in_time_gives_its_result_or_its_error():
    async def answer():
        return 7

    async def fail():
        raise LookupError("no")

    assert await call(answer()) == 7
    with pytest.raises(LookupError, match="no"):
        await call(fail())


async def test_a_call_that_does_not_end_is_cancelled():
    ended = []

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(DeadlineError):
        await call(hang(), 0.01)
    assert ended == [True]


async def test_a_call_that_ignores_its_cancellation_is_left_behind():
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        raise LookupError("late")

    with pytest.raises(DeadlineError):
        await call(stubborn(), 0.01, 0.01)
    release.set()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_cancelled_caller_cancels_the_call():
    began, ended = asyncio.Event(), []

    async def hang():
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.ensure_future(call(hang()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


def test_ours_stay_as_they_are(inner):
    error = MachineLostError("gone")
    assert in_our_terms(error, inner, "execute") is error
    git = GitMachineError("x")
    assert in_our_terms(git, inner, "start") is git


def test_foreign_ones_name_the_machine_the_operation_and_themselves(inner):
    error = in_our_terms(KeyError("x"), inner, "resume")
    assert type(error) is MachineError
    assert str(error) == "the freezing machine failed to resume: KeyError: 'x'"
    assert (error.provider, error.operation) == ("freezing", "resume")
    assert isinstance(in_our_terms(ConnectionError(), inner, "start"), MachineStartError)


@pytest.mark.parametrize(
    ("number", "cls", "builtin"),
    [
        (errno.ENOENT, MachineFileNotFoundError, FileNotFoundError),
        (errno.EACCES, MachinePermissionError, PermissionError),
    ],
)
def test_errors_of_files_are_the_built_in_ones_too(inner, number, cls, builtin):
    error = in_our_terms(OSError(number, "why"), inner, "read_file", path="a/b")
    assert isinstance(error, cls)
    assert isinstance(error, builtin)
    assert error.filename == "a/b"
    assert str(error) == "read_file 'a/b': why"
    assert type(in_our_terms(OSError("bare"), inner, "read_file", path="a")) is MachineError
