"""Managed machines. Time budget: none of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gitmachine.execution import ExecRequest
from gitmachine.machine import Machine
from gitmachine.machines.managed import ManagedMachine
from support.freezing import QUICK, FreezingMachine
from support.machines import StreamMachine


@pytest.fixture
async def inner(tmp_path: Path) -> AsyncIterator[FreezingMachine]:
    made = FreezingMachine(tmp_path)
    yield made
    await made.wipe()


@pytest.fixture
def losses() -> list[str]:
    return []


@pytest.fixture
async def machine(inner: FreezingMachine, losses: list[str]) -> ManagedMachine:
    made = ManagedMachine(inner, on_lost=losses.append)
    await made.start()
    return made


@pytest.fixture
async def quick(inner: FreezingMachine, losses: list[str]) -> ManagedMachine:
    """The same with deadlines that pass at once, for machines that hang."""
    await StreamMachine.start(inner)
    return ManagedMachine(inner, deadlines=QUICK, on_lost=losses.append)


@pytest.fixture
def running() -> Callable[[Machine, str], Awaitable[asyncio.Task[object]]]:
    """Start a script that says something first; return its task when it has said so."""

    async def run(machine: Machine, script: str, **fields: object) -> asyncio.Task[object]:
        said = asyncio.Event()
        request = ExecRequest(shell=f"echo go; {script}", on_stdout=lambda _: said.set(), **fields)
        task = asyncio.ensure_future(machine.execute(request))
        waiting = asyncio.ensure_future(said.wait())
        await asyncio.wait([task, waiting], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert said.is_set(), task
        return task

    return run
