"""Which requests are repeated, and how long one may take. Time budget: 20 s."""

from __future__ import annotations

import time

import pytest

from gitmachine_e2b import _http
from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b._errors import Broken, Refusal

BODY = {"templateID": "base", "timeout": 300, "secure": True, "metadata": {}, "envVars": {}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_http, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
async def api(emulator):
    api = ControlPlane(emulator.api_url, emulator.api_key, seconds=10)
    yield api
    emulator.faults.clear()
    for sandbox_id in emulator.sandbox_ids:
        await api.kill(sandbox_id)
    await api.close()


def count(emulator, method, path):
    return sum(1 for record in emulator.requests if record.method == method and record.path == path)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_question_is_asked_again_after_a_failure_that_passes(emulator, api, status):
    emulator.faults.add("status", path="/v2/sandboxes", status=status, body="<html>later</html>", count=2)
    assert [one async for one in api.sandboxes()] == []
    assert count(emulator, "GET", "/v2/sandboxes") == 3


async def test_a_question_is_not_asked_for_ever(emulator, api):
    emulator.faults.add("status", path="/v2/sandboxes", status=503, count=None)
    with pytest.raises(Refusal):
        await api.page()
    assert count(emulator, "GET", "/v2/sandboxes") == 1 + _http.RETRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
async def test_an_answer_that_stays_the_same_is_not_asked_for_again(emulator, api, status):
    emulator.faults.add("status", path="/v2/sandboxes", status=status, count=None)
    with pytest.raises(Refusal) as info:
        await api.page()
    assert info.value.status == status
    assert count(emulator, "GET", "/v2/sandboxes") == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_request_that_may_have_acted_is_never_repeated(emulator, api, status):
    emulator.faults.add("status", path="^/sandboxes$", method="POST", status=status, when="after", count=None)
    with pytest.raises(Refusal):
        await api.create(BODY)
    assert count(emulator, "POST", "/sandboxes") == 1
    assert len(emulator.sandbox_ids) == 1  # and that one is the caller's to find


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cut_request_that_may_have_acted_is_never_repeated(emulator, api, when):
    emulator.faults.add("cut", path="^/sandboxes$", method="POST", when=when, count=None)
    with pytest.raises(Broken) as info:
        await api.create(BODY)
    assert info.value.sent
    assert count(emulator, "POST", "/sandboxes") == 1


async def test_a_cut_question_is_asked_again(emulator, api):
    emulator.faults.add("cut", path="/v2/sandboxes", count=2)
    await api.page()
    assert count(emulator, "GET", "/v2/sandboxes") == 3


async def test_a_rate_limit_is_waited_for_whatever_the_request(emulator, api):
    emulator.faults.add("status", path="^/sandboxes$", method="POST", status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    assert (await api.create(BODY)).id
    assert time.monotonic() - began >= 1
    assert count(emulator, "POST", "/sandboxes") == 2


async def test_a_limit_on_sandboxes_is_not_waited_for(emulator, api):
    emulator.faults.add("status", path="^/sandboxes$", method="POST", status=429, count=None)
    with pytest.raises(Refusal) as info:
        await api.create(BODY)
    assert info.value.code == "resource_exhausted"
    assert count(emulator, "POST", "/sandboxes") == 1


async def test_a_wait_that_is_longer_than_the_request_may_take_is_not_made(emulator, api):
    emulator.faults.add("status", path="/v2/sandboxes", status=429, headers={"Retry-After": "3600"}, count=None)
    began = time.monotonic()
    with pytest.raises(Refusal) as info:
        await api.page()
    assert info.value.retry_after == 3600
    assert time.monotonic() - began < 30


async def test_a_date_to_retry_after_is_no_wait(emulator, api):
    when = "Wed, 21 Oct 2026 07:28:00 GMT"
    emulator.faults.add("status", path="/v2/sandboxes", status=503, headers={"Retry-After": when})
    await api.page()
    assert count(emulator, "GET", "/v2/sandboxes") == 2


async def test_a_peer_that_does_not_answer_is_given_up(emulator):
    api = ControlPlane(emulator.api_url, emulator.api_key, seconds=0.5)
    emulator.faults.add("silent", path="^/sandboxes$", method="POST", count=None)
    try:
        with pytest.raises(Broken, match="no answer") as info:
            await api.create(BODY)
    finally:
        await api.close()
    assert info.value.sent


async def test_a_peer_that_cannot_be_reached_got_nothing():
    api = ControlPlane("http://127.0.0.1:1", "key", seconds=5)
    try:
        with pytest.raises(Broken) as info:
            await api.create(BODY)
    finally:
        await api.close()
    assert not info.value.sent
