"""The control plane on the wire: each call is what the service takes, and each answer a record. Time budget: 20 s."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gitmachine_e2b._api import ControlPlane, encode_metadata
from gitmachine_e2b._errors import Refusal
from gitmachine_e2b._records import RecordError


@pytest.fixture
async def api(emulator):
    api = ControlPlane(emulator.api_url, emulator.api_key)
    yield api
    for sandbox_id in emulator.sandbox_ids:
        await api.kill(sandbox_id)
    await api.close()


@pytest.fixture
async def sandbox(api):
    return await api.create({"templateID": "base", "timeout": 300, "secure": True, "metadata": {}, "envVars": {}})


def sent(emulator):
    """Return what was sent last: method, path, query as sent, JSON or None."""
    record = emulator.requests[-1]
    return record.method, record.path, record.query_string, record.json if record.body else None


def test_metadata_is_encoded_twice_before_the_query_is():
    assert encode_metadata({"a b": "c&d", "x": "y"}) == "a%2520b=c%2526d&x=y"


async def test_create_sends_what_the_service_takes(emulator, api):
    body = {
        "templateID": "base",
        "timeout": 300,
        "secure": True,
        "autoPause": True,
        "autoResume": {"enabled": True},
        "allow_internet_access": False,
        "network": {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]},
        "metadata": {"a": "b"},
        "envVars": {"X": "1"},
    }
    sandbox = await api.create(body)
    assert sent(emulator) == ("POST", "/sandboxes", "", body)
    record = emulator.requests[-1]
    assert record.headers["x-api-key"] == emulator.api_key
    assert record.headers["content-type"] == "application/json"
    assert record.headers["accept"] == "application/json"
    assert record.headers["user-agent"].startswith("gitmachine")
    assert sandbox.id.startswith("i")
    assert sandbox.envd_token
    assert sandbox.envd_version == "0.6.13"


async def test_each_call_on_a_sandbox_sends_what_the_service_takes(emulator, api, sandbox):
    path = f"/sandboxes/{sandbox.id}"
    assert (await api.get(sandbox.id)).state == "running"
    assert sent(emulator) == ("GET", path, "", None)
    assert (await api.connect(sandbox.id, 300)).envd_token == sandbox.envd_token
    assert sent(emulator) == ("POST", f"{path}/connect", "", {"timeout": 300})
    await api.set_timeout(sandbox.id, 99)
    assert sent(emulator) == ("POST", f"{path}/timeout", "", {"timeout": 99})
    await api.refresh(sandbox.id, 120)
    assert sent(emulator) == ("POST", f"{path}/refreshes", "", {"duration": 120})
    await api.refresh(sandbox.id, 100_000)
    assert sent(emulator)[3] == {"duration": 3600}
    await api.refresh(sandbox.id, 1)
    assert sent(emulator)[3] == {"duration": 15}
    await api.metrics(sandbox.id, start=datetime(2026, 1, 1, tzinfo=UTC))
    assert sent(emulator) == ("GET", f"{path}/metrics", "start=1767225600", None)
    network = {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]}
    await api.set_network(sandbox.id, network)
    assert sent(emulator) == ("PUT", f"{path}/network", "", network)
    assert await api.pause(sandbox.id) is True
    assert sent(emulator) == ("POST", f"{path}/pause", "", {"memory": True})
    assert await api.pause(sandbox.id) is False  # 409, and then it is looked at
    assert [record.method for record in emulator.requests[-2:]] == ["POST", "GET"]
    assert (await api.resume(sandbox.id, 60)).id == sandbox.id
    assert sent(emulator) == ("POST", f"{path}/resume", "", {"timeout": 60})
    assert await api.kill(sandbox.id) is True
    assert sent(emulator) == ("DELETE", path, "", None)
    assert await api.kill(sandbox.id) is False


async def test_snapshots_and_forks_send_what_the_service_takes(emulator, api, sandbox):
    path = f"/sandboxes/{sandbox.id}"
    named = await api.snapshot(sandbox.id, "snap")
    assert sent(emulator) == ("POST", f"{path}/snapshots", "", {"name": "snap"})
    assert named.id == "team/snap:default"
    unnamed = await api.snapshot(sandbox.id)
    assert sent(emulator) == ("POST", f"{path}/snapshots", "", {})
    found = await api.snapshots(sandbox.id)
    assert sent(emulator) == ("GET", "/snapshots", f"limit=100&sandboxID={sandbox.id}", None)
    assert {one.id for one in found} == {named.id, unnamed.id}
    assert await api.delete_snapshot(named.id) is True
    assert sent(emulator) == ("DELETE", "/templates/team%2Fsnap%3Adefault", "", None)
    assert await api.delete_snapshot(named.id) is False
    assert await api.delete_snapshot(unnamed.id) is True
    forks = await api.fork(sandbox.id, timeout=300, count=2)
    assert sent(emulator) == ("POST", f"{path}/fork", "", {"timeout": 300, "count": 2})
    assert len({fork.sandbox.id for fork in forks} | {sandbox.id}) == 3


async def test_a_list_sends_its_filters_with_each_page(emulator, api):
    body = {"templateID": "base", "timeout": 300, "secure": True, "envVars": {}}
    metadata = {"a b": "c&d", "x": "y"}
    made = [(await api.create({**body, "metadata": metadata})).id for _ in range(3)]
    await api.create({**body, "metadata": {"a b": "other"}})
    emulator.requests.clear()
    found = [one async for one in api.sandboxes(metadata=metadata, states=("running", "paused"), limit=2)]
    assert sorted(one.id for one in found) == sorted(made)
    assert found[0].metadata == metadata
    first, second = emulator.requests
    query = "metadata=a%252520b%3Dc%252526d%26x%3Dy&state=running%2Cpaused&limit=2"
    assert (first.method, first.path, first.query_string) == ("GET", "/v2/sandboxes", query)
    assert second.query_string.startswith(f"{query}&nextToken=")
    assert len([one async for one in api.sandboxes()]) == 4


async def test_a_refusal_tells_what_the_service_said(api):
    with pytest.raises(Refusal) as info:
        await api.get("inothere")
    assert (info.value.status, info.value.code) == (404, "not_found")
    assert info.value.message
    with pytest.raises(Refusal) as info:
        await api.create({"templateID": "no-such-template", "timeout": 300})
    assert info.value.status == 404
    assert "no-such-template" in info.value.message


async def test_a_pause_refused_in_transition_is_a_refusal(emulator, api, sandbox):
    emulator.faults.add("status", path="/pause$", status=409, body='{"code": 409, "message": "in transition"}')
    with pytest.raises(Refusal, match="in transition"):
        await api.pause(sandbox.id)


async def test_a_good_answer_that_is_none_is_a_record_error(emulator, api, sandbox):
    emulator.faults.add("status", path=f"/{sandbox.id}$", method="GET", status=200, body="<html>login</html>")
    with pytest.raises(RecordError):
        await api.get(sandbox.id)
    emulator.faults.add("status", path=f"/{sandbox.id}$", method="GET", status=200, body="[]")
    with pytest.raises(RecordError):
        await api.get(sandbox.id)


async def test_unknown_fields_change_nothing(emulator, api, sandbox):
    emulator.faults.add("unknown", surface="api", count=None)
    assert (await api.get(sandbox.id)).id == sandbox.id
    assert (await api.connect(sandbox.id, 300)).id == sandbox.id


async def test_ids_are_one_segment_of_a_path(emulator, api):
    with pytest.raises(Refusal):
        await api.get("../templates/x?y")
    assert emulator.requests[-1].path == "/sandboxes/..%2Ftemplates%2Fx%3Fy"
