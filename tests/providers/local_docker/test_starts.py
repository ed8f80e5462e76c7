"""Starting processes and freezing their container: never at once.

Time budget: 5 s. No engine is needed.
"""

from __future__ import annotations

import asyncio

from gitmachine_local_docker import _starts
from gitmachine_local_docker._gate import HostGate
from gitmachine_local_docker._starts import Starts


async def test_freezing_waits_for_what_is_being_started_and_holds_up_what_comes_then():
    starts, seen = Starts(HostGate("container")), []
    go = asyncio.Event()

    async def start(name: str) -> None:
        async with starts.one():
            seen.append(name)
            await go.wait()

    async def freeze() -> None:
        async with starts.none():
            seen.append("frozen")

    first = asyncio.ensure_future(start("first"))
    await asyncio.sleep(0)
    freezing = asyncio.ensure_future(freeze())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(start("second"))
    await asyncio.sleep(0)
    assert seen == ["first"]
    go.set()
    await asyncio.gather(first, freezing, second)
    assert seen == ["first", "frozen", "second"]


async def test_two_may_freeze_at_once_and_starts_wait_for_both():
    starts, go = Starts(HostGate("container")), asyncio.Event()

    async def freeze(until: asyncio.Event) -> None:
        async with starts.none():
            await until.wait()

    async def start() -> None:
        async with starts.one():
            pass

    done = asyncio.Event()
    done.set()
    slow = asyncio.ensure_future(freeze(go))
    await freeze(done)
    starting = asyncio.ensure_future(start())
    await asyncio.sleep(0.01)
    assert not starting.done()
    go.set()
    await asyncio.gather(slow, starting)


async def test_a_start_that_takes_too_long_does_not_hold_it_up_for_ever(monkeypatch):
    monkeypatch.setattr(_starts, "PATIENCE_SECONDS", 0.01)
    starts = Starts(HostGate("container"))
    async with starts.one(), starts.none():
        pass
    async with starts.one():
        pass
