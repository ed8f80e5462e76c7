"""An emulated E2B service for the tests of the provider.

Time budget: no tests here; 0.5 s for each emulator, 0.2 s for each sandbox.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from gitmachine import ExecRequest
from gitmachine_e2b import E2BConfig, E2BMachine
from support.e2b import serving

PATIENCE_SECONDS = 60


def config_for(emulator, **options):
    """Return a configuration that leads to an emulator; ports are this host's."""
    values = {
        "api_url": emulator.api_url,
        "sandbox_url": emulator.sandbox_url,
        "api_key": emulator.api_key,
        "debug": True,
    }
    return E2BConfig(**{**values, **options})


async def eventually(condition, what="the condition"):
    """Wait, within a generous deadline, until condition() is true (or awaits to something true); return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE_SECONDS} s"
        await asyncio.sleep(0.02)


async def sh(machine, script, **options):
    """Run a script in a machine."""
    return await machine.execute(ExecRequest(shell=script, **options))


@pytest.fixture(scope="module")
def shared_emulator():
    """One emulator for a module; `emulator` is what tests use."""
    with serving() as emulator:
        yield emulator


@pytest.fixture
def emulator(shared_emulator):
    """An emulator without faults and records; every test is proven to leave no sandbox behind."""
    shared_emulator.faults.clear()
    shared_emulator.requests.clear()
    before = set(shared_emulator.sandbox_ids)
    yield shared_emulator
    shared_emulator.faults.clear()
    left = set(shared_emulator.sandbox_ids) - before
    assert not left, f"sandboxes were left behind: {left}"


@pytest.fixture
async def machine(emulator):
    """A running machine."""
    machine = E2BMachine(config_for(emulator))
    await machine.start()
    try:
        yield machine
    finally:
        emulator.faults.clear()
        await machine.stop()
