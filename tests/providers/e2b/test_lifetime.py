"""A sandbox's life: extended while somebody uses it, its end announced. Time budget: 15 s."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from gitmachine import MachineLostError
from gitmachine_e2b import E2BMachine, _lifetime
from gitmachine_e2b._errors import Broken, Refusal
from gitmachine_e2b._lifetime import Lifetime
from gitmachine_e2b._records import SandboxInfo
from providers.e2b.conftest import config_for, eventually, sh
from support.e2b import serving


class Service:
    """What of the control plane extends a sandbox; `left` is how many seconds it grants."""

    def __init__(self, left):
        self.left = left
        self.refreshed = []
        self.problem = None

    async def refresh(self, sandbox_id, duration):
        self.refreshed.append((sandbox_id, duration))
        if self.problem is not None:
            raise self.problem

    async def get(self, sandbox_id):
        return SandboxInfo(id=sandbox_id, ends_at=datetime.now(UTC) + timedelta(seconds=self.left))


def test_a_sandbox_is_extended_when_a_third_of_its_time_has_passed():
    assert Lifetime(Service(300), "i", 300).interval == 100
    assert Lifetime(Service(300), "i", 86_400).interval == 1200  # the service extends by an hour at most


async def test_an_end_that_is_far_away_is_not_announced(caplog):
    told = []
    lifetime = Lifetime(Service(299), "i", 300, told.append)
    await lifetime.extend()
    assert lifetime.ends_at is not None
    await Lifetime(Service(7200), "i", 300, told.append).extend()
    assert told == []
    assert caplog.records == []


async def test_an_end_that_is_not_put_off_is_announced_once(caplog):
    told = []
    service = Service(120)
    lifetime = Lifetime(service, "iabc", 300, told.append)
    with caplog.at_level(logging.WARNING, "gitmachine.e2b"):
        await lifetime.extend()
        await lifetime.extend()
    assert told == [told[0]]
    assert (told[0] - datetime.now(UTC)).total_seconds() < 120
    [record] = caplog.records
    assert "iabc" in record.getMessage()


@pytest.mark.parametrize(
    "problem", [Refusal("no", status=500, code="internal"), Broken("cut", sent=True)], ids=["refused", "cut"]
)
async def test_an_extension_that_fails_is_tried_again(problem):
    service = Service(300)
    service.problem = problem
    lifetime = Lifetime(service, "i", 0)
    lifetime.start()
    try:
        await eventually(lambda: len(service.refreshed) > 2, "it is tried again")
    finally:
        await lifetime.stop()
    count = len(service.refreshed)
    await asyncio.sleep(0.05)
    assert len(service.refreshed) == count
    await lifetime.stop()


async def test_a_working_machine_outlives_its_timeout_and_one_that_is_let_go_does_not(monkeypatch):
    monkeypatch.setattr(_lifetime, "SHARE", 20)
    with serving(lifetime_scale=0.2) as emulator:  # 15 s are 3
        machine = E2BMachine(config_for(emulator, timeout=15))
        await machine.start()
        await asyncio.sleep(5)
        assert (await sh(machine, "echo alive")).stdout == "alive\n"
        assert any(record.path.endswith("/refreshes") for record in emulator.requests)
        await machine.close()
        await eventually(lambda: emulator.sandbox_ids == [], "its timeout passes")
        with pytest.raises(MachineLostError):
            await E2BMachine.connect("iabc", config_for(emulator))


async def test_a_new_timeout_is_kept_up_from_then_on(machine, emulator):
    emulator.requests.clear()
    await machine.set_timeout(900)
    assert emulator.requests[-1].json == {"timeout": 900}
    assert machine._link().lifetime.interval == 300
    info = await machine.get_info()
    assert 800 < (info.ends_at - datetime.now(UTC)).total_seconds() <= 905


async def test_the_end_is_told_to_who_asked(machine):
    told = []
    machine.on_expiry = told.append
    moment = datetime.now(UTC)
    machine._link().lifetime._announce(moment, 10)
    assert told == [moment]
