"""What `gitmachine doctor e2b` finds. Time budget: 5 s."""

from __future__ import annotations

from gitmachine_e2b import doctor as module
from gitmachine_e2b.doctor import doctor
from providers.e2b.conftest import config_for


async def test_a_key_that_works(emulator):
    checks = await doctor(config_for(emulator))
    assert [(check.name, check.ok) for check in checks] == [("key", True), ("service", True)]
    assert emulator.sandbox_ids == []
    assert {record.method for record in emulator.requests} == {"GET"}


async def test_without_a_key_it_says_where_to_get_one(emulator, monkeypatch):
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    [check] = await doctor(config_for(emulator, api_key=None))
    assert not check.ok
    assert "E2B_API_KEY" in check.fix


async def test_a_key_that_is_refused(emulator):
    checks = await doctor(config_for(emulator, api_key="e2b_wrong"))
    assert [check.ok for check in checks] == [True, False]
    assert "e2b_wrong" not in repr(checks)


async def test_a_service_that_cannot_be_reached_or_does_not_answer(emulator, monkeypatch):
    checks = await doctor(config_for(emulator, api_url="http://127.0.0.1:1"))
    assert [check.ok for check in checks] == [True, False]
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    emulator.faults.add("silent", surface="api", count=None)
    checks = await doctor(config_for(emulator))
    assert [check.ok for check in checks] == [True, False]
