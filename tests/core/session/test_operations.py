"""The lock that is re-entrant for an operation's own callbacks. Time budget: 5 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine.errors import InvalidStateError, StateError
from gitmachine.events import Event, MachinePaused
from gitmachine.steps import operations
from gitmachine.steps.operations import Operations


def event() -> Event:
    return MachinePaused(machine_id="m", provider="p", repository="r", session="s")


def make() -> tuple[Operations, list[Event]]:
    seen: list[Event] = []

    async def deliver(event: Event) -> None:
        seen.append(event)

    return Operations(deliver), seen


async def test_one_operation_waits_for_the_other() -> None:
    ops, _ = make()
    order: list[str] = []

    async def work(name: str) -> None:
        async with ops.hold(name):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(work("a"), work("b"))
    assert order == ["a in", "a out", "b in", "b out"]


async def test_a_callback_of_an_operation_works_inside_it() -> None:
    ops, _ = make()
    async with asyncio.timeout(5), ops.hold("start"), ops.hold("commit"):
        assert ops.inside() is not None


async def test_two_nested_operations_take_turns() -> None:
    ops, _ = make()
    running = 0

    async def nested() -> None:
        nonlocal running
        async with ops.hold("commit"):
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1

    async with asyncio.timeout(5), ops.hold("start"):
        await asyncio.gather(*(nested() for _ in range(10)))


async def test_a_life_cycle_call_from_a_callback_is_refused_at_once() -> None:
    ops, _ = make()
    async with ops.hold("start"):
        with pytest.raises(InvalidStateError, match=r"stop\(\) cannot be called from a callback or hook of start\(\)"):
            async with ops.hold("stop", lifecycle=True):
                pass


async def test_a_task_that_outlives_the_operation_is_no_callback_of_it_any_more() -> None:
    ops, _ = make()
    release = asyncio.Event()

    async def later() -> None:
        await release.wait()
        async with ops.hold("stop", lifecycle=True):
            pass

    async with ops.hold("start"):
        task = asyncio.create_task(later())
    release.set()
    await asyncio.wait_for(task, 5)


async def test_a_callback_may_act_on_another_session() -> None:
    ops, _ = make()
    other, _ = make()
    async with ops.hold("start"), other.hold("stop", lifecycle=True):
        assert other.inside() is not ops.inside()


async def test_events_are_delivered_once_the_lock_is_free() -> None:
    async def deliver(_event: Event) -> None:
        async with asyncio.timeout(5), ops.hold("resume", lifecycle=True):
            acted.append("resume")

    acted: list[str] = []
    ops = Operations(deliver)
    async with ops.hold("pause", lifecycle=True) as operation:
        operation.emit(event())
        assert acted == []
    assert acted == ["resume"]


async def test_events_before_an_error_are_delivered_nevertheless() -> None:
    ops, seen = make()

    async def fail() -> None:
        async with ops.hold("push") as operation:
            operation.emit(event())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert len(seen) == 1


async def test_flush_delivers_inside_the_operation() -> None:
    ops, seen = make()
    async with ops.hold("start") as operation:
        operation.emit(event())
        await operation.flush()
        assert len(seen) == 1
    assert len(seen) == 1


async def test_waiting_has_a_deadline_and_names_the_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LOCK_SECONDS", 0.05)
    ops, _ = make()
    release = asyncio.Event()

    async def hold() -> None:
        async with ops.hold("push"):
            await release.wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    with pytest.raises(StateError, match=r"push\(\)"):
        async with ops.hold("commit"):
            pass
    release.set()
    await task


async def test_an_output_callback_may_not_stop_the_machine_whose_command_it_serves() -> None:
    ops, _ = make()
    with ops.command(), pytest.raises(InvalidStateError, match="output callback"):
        async with ops.hold("stop", lifecycle=True):
            pass
    async with ops.hold("stop", lifecycle=True):
        pass
