"""Real signals: the first cancels what runs, a second Ctrl-C leaves. Time budget: 2 s."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gitmachine.cli.interrupts import Interrupted, Interrupts


class Told:
    def __init__(self) -> None:
        self.announced = 0
        self.left = 0
        self.interrupts = Interrupts(self._announce, self._leave)

    def _announce(self) -> None:
        self.announced += 1

    def _leave(self) -> None:
        self.left += 1


@pytest.fixture
def told() -> Told:
    return Told()


async def _arrived(told: Told, attribute: str) -> None:
    async with asyncio.timeout(30):
        while not getattr(told, attribute):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_cancels_what_runs(told: Told, number: signal.Signals) -> None:
    told.interrupts.install()
    ended = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(Interrupted):
        await told.interrupts.run(work())
    assert ended == [True]
    assert (told.interrupts.interrupted, told.announced, told.left) == (True, 1, 0)


async def test_a_second_ctrl_c_leaves_and_a_second_term_does_not(told: Told) -> None:
    told.interrupts.install()
    os.kill(os.getpid(), signal.SIGTERM)
    await _arrived(told, "announced")
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    await _arrived(told, "left")
    assert (told.announced, told.left) == (1, 1)


async def test_nothing_runs_after_an_interruption(told: Told) -> None:
    told.interrupts.install()
    os.kill(os.getpid(), signal.SIGINT)
    await _arrived(told, "announced")
    started = []

    async def work() -> None:
        started.append(True)

    with pytest.raises(Interrupted):
        await told.interrupts.run(work())
    assert started == []


async def test_what_ends_by_itself_gives_its_result_or_error(told: Told) -> None:
    told.interrupts.install()

    async def fine() -> int:
        return 7

    async def wrong() -> int:
        raise ValueError("no")

    assert await told.interrupts.run(fine()) == 7
    with pytest.raises(ValueError, match="no"):
        await told.interrupts.run(wrong())


async def test_a_signal_that_is_ignored_stays_ignored(told: Told) -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        told.interrupts.install()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        await _arrived(told, "announced")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)


async def test_a_cancellation_from_elsewhere_is_one(told: Told) -> None:
    told.interrupts.install()
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.ensure_future(told.interrupts.run(work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
