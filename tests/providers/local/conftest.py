"""Machines for the tests of the local provider; each is proven to leave nothing behind.

Time budget: no tests here; 0.1 s for each machine.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gitmachine import ExecRequest
from gitmachine.state.places import Places
from gitmachine_local import LocalConfig, LocalMachine, _processes

PATIENCE_SECONDS = 60


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


def leftovers(record=None):
    """Return what local machines have on the host: files, and the processes of one record."""
    places = Places.default()
    found = [str(path) for path in (places.state / "local").glob("*")]
    found += [str(path) for path in places.runtime.glob("local-*")]
    if record is not None:
        found += [f"process {identity}" for identity in (record.first, record.monitor) if _processes.is_alive(identity)]
    return found


@pytest.fixture(params=["bubblewrap", "none"])
def isolation(request):
    return request.param


@pytest.fixture
async def machine(isolation):
    """A running machine, with a sandbox and without."""
    machine = LocalMachine(LocalConfig(isolation=isolation))
    await machine.start()
    record = machine._record
    try:
        yield machine
    finally:
        await machine.stop()
    assert leftovers(record) == []


@pytest.fixture
async def sandbox():
    """A running machine in a sandbox."""
    machine = LocalMachine()
    await machine.start()
    record = machine._record
    try:
        yield machine
    finally:
        await machine.stop()
    assert leftovers(record) == []


@pytest.fixture
def helpers():
    """The functions of this module, for tests that cannot import a conftest."""
    return Helpers


class Helpers:
    eventually = staticmethod(eventually)
    sh = staticmethod(sh)
    leftovers = staticmethod(leftovers)
    here = Path(__file__).parent
