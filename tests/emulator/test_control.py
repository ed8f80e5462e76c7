"""The control plane: what it refuses, shows, lists, and how long sandboxes live.

Time budget: 10 s.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from support.e2b import OTHER_KEY, serving
from support.e2b.raw import Box, Raw

pytestmark = pytest.mark.requires("e2b-emulator")
BASE = {"templateID": "base"}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


def seconds_left(box: Box) -> float:
    end = dt.datetime.fromisoformat(box.api("GET").json()["endAt"])
    return (end - dt.datetime.now(dt.UTC)).total_seconds()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "validation error: "),
        ({**BASE, "timeout": 0}, 400, "Timeout"),
        ({**BASE, "timeout": 90000}, 400, "24 hours"),
        ({**BASE, "timeout": "5"}, 400, "validation error: "),
        ({"templateID": "none"}, 404, "template 'none' not found"),
        ({"templateID": "Not a reference"}, 400, "Invalid template"),
        ({**BASE, "autoPauseMemory": False}, 400, "autoPause"),
        ({**BASE, "network": {"allowOut": ["example.com"]}}, 400, "0.0.0.0/0"),
        ({**BASE, "network": {"denyOut": ["example.com"]}}, 400, "CIDR"),
        ({**BASE, "network": {"allowPublicTraffic": False}}, 400, "not secure"),
        ({**BASE, "network": {"egressProxy": {"address": "x:1"}}}, 403, "proxy"),
        ({"templateID": "envd:0.1.9", "secure": True}, 400, "0.2.0"),
    ],
)
def test_a_creation_that_cannot_be_is_refused(raw: Raw, body: dict[str, Any], status: int, message: str) -> None:
    answer = raw.api("POST", "/sandboxes", body)
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert message in answer.json()["message"]
    assert raw.emulator.sandbox_ids == []


def test_keys_are_checked_and_teams_kept_apart(raw: Raw) -> None:
    box = raw.create()
    for headers in ({"X-API-Key": "wrong"}, {"X-API-Key": ""}):
        assert raw.api("GET", "/v2/sandboxes", headers=headers).status_code == 401
    other = {"X-API-Key": OTHER_KEY}
    never = raw.api("GET", "/sandboxes/inever", headers=other).json()["message"]
    assert box.api("GET", headers=other).status_code == 404
    assert box.api("GET", headers=other).json()["message"] == never.replace("inever", box.id)
    assert raw.api("GET", "/v2/sandboxes", headers=other).json() == []
    assert raw.api("GET", f"/sandboxes/{box.id}-6532622b").status_code == 200
    assert raw.api("GET", f"/sandboxes/{box.id}-a-b").status_code == 400


def test_the_first_generation_gives_no_token_unasked_and_the_second_always_does(raw: Raw) -> None:
    first = raw.box(raw.api("POST", "/sandboxes", BASE).json())
    assert "envdAccessToken" not in first.made
    assert first.run("echo open").output() == b"open\n"
    assert 0 < seconds_left(first) <= 15
    second = raw.box(raw.api("POST", "/v2/sandboxes", BASE).json())
    assert second.made["envdAccessToken"]
    assert 290 < seconds_left(second) <= 300


def test_an_idempotency_key_makes_one_sandbox(raw: Raw) -> None:
    headers = {"Idempotency-Key": "one-1"}
    answers = [raw.api("POST", "/v2/sandboxes", BASE, headers=headers) for _ in range(2)]
    raw.box(answers[0].json())
    assert answers[0].json() == answers[1].json()
    other = raw.api("POST", "/v2/sandboxes", {**BASE, "timeout": 7}, headers=headers)
    assert (other.status_code, other.json()["error_code"]) == (422, "idempotency_request_mismatch")
    assert raw.api("POST", "/v2/sandboxes", BASE, headers={"Idempotency-Key": "NOT"}).status_code == 400
    assert len(raw.emulator.sandbox_ids) == 1


def test_details_are_shown(raw: Raw) -> None:
    network = {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]}
    box = raw.create(metadata={"a": "b"}, network=network, autoPause=True, autoResume={"enabled": True})
    shown = box.api("GET").json()
    wanted = {"sandboxID": box.id, "alias": "base", "state": "running", "metadata": {"a": "b"}, "network": network}
    assert wanted.items() <= shown.items()
    assert shown["lifecycle"] == {"autoResume": True, "onTimeout": "pause"}
    assert (shown["allowInternetAccess"], shown["envdAccessToken"]) == (None, box.made["envdAccessToken"])
    assert box.api("PUT", "/network", {"denyOut": ["8.8.8.8"], "allow_internet_access": False}).status_code == 204
    shown = box.api("GET").json()
    assert (shown["network"], shown["allowInternetAccess"]) == ({"denyOut": ["8.8.8.8"]}, False)
    [metric] = box.api("GET", "/metrics").json()
    assert metric["memTotal"] > metric["memUsed"] > 0
    future = {"start": str(int(time.time()) + 1000)}
    assert box.api("GET", "/metrics", params=future).json() == []
    batch = raw.api("GET", "/sandboxes/metrics", params={"sandbox_ids": f"{box.id},inone"}).json()
    assert list(batch["sandboxes"]) == [box.id]


def test_a_list_is_filtered_and_comes_in_pages(raw: Raw) -> None:
    boxes = [raw.create(metadata={"k ey": "a&b", "n": str(number)}) for number in range(3)]
    boxes[1].api("POST", "/pause", {})

    def listed(**query: str) -> list[str]:
        return [row["sandboxID"] for row in raw.api("GET", "/v2/sandboxes", params=query).json()]

    ids = [box.id for box in boxes]
    assert listed(order="asc") == ids
    assert listed() == ids[::-1]
    assert listed(state="paused") == [ids[1]]
    twice = f"{quote(quote('k ey'))}={quote(quote('a&b'))}&n=2"
    assert listed(metadata=twice) == [ids[2]]
    assert raw.api("GET", "/v2/sandboxes", params={"metadata": "odd"}).status_code == 400
    first = raw.api("GET", "/v2/sandboxes", params={"limit": "2", "order": "asc"})
    assert (len(first.json()), first.headers["X-Total-Running"]) == (2, "2")
    rest = raw.api(
        "GET", "/v2/sandboxes", params={"limit": "2", "order": "asc", "nextToken": first.headers["X-Next-Token"]}
    )
    assert ([row["sandboxID"] for row in rest.json()], "X-Next-Token" in rest.headers) == ([ids[2]], False)
    assert raw.api("GET", "/v2/sandboxes", params={"limit": "101"}).status_code == 400
    assert {row["sandboxID"] for row in raw.api("GET", "/sandboxes").json()} == {ids[0], ids[2]}


def test_timeouts_are_set_extended_and_capped(raw: Raw) -> None:
    box = raw.create(timeout=100)
    assert box.api("POST", "/timeout", {"timeout": 50}).status_code == 204
    assert 40 < seconds_left(box) <= 50
    assert box.api("POST", "/connect", {"timeout": 20}).status_code == 200
    assert 40 < seconds_left(box) <= 50
    assert box.api("POST", "/refreshes", {"duration": 200}).status_code == 204
    assert 190 < seconds_left(box) <= 200
    assert box.api("POST", "/timeout", {"timeout": 10**6}).status_code == 204
    assert 86000 < seconds_left(box) <= 86400
    assert box.api("POST", "/connect", {"timeout": 10**6}).status_code == 400
    assert box.api("POST", "/connect", {}).status_code == 400
    assert raw.api("POST", f"/v2/sandboxes/{box.id}/connect", {}).status_code == 200


def test_a_timeout_kills_or_pauses(raw: Raw) -> None:
    killed, paused = raw.create(timeout=1), raw.create(timeout=1, autoPause=True)
    until(lambda: killed.api("GET").status_code == 404)
    until(lambda: paused.api("GET").json()["state"] == "paused")
    assert killed.request("GET", "/health").json()["message"] == "The sandbox was not found"


def test_time_can_be_made_shorter() -> None:
    with serving(lifetime_scale=0.001, concurrency_limit=1) as emulator, Raw(emulator) as raw:
        box = raw.create(timeout=300)
        until(lambda: box.api("GET").status_code == 404)
        emulator.settings.lifetime_scale = 1.0
        raw.create()
        refused = raw.api("POST", "/sandboxes", BASE)
        assert (refused.status_code, "Retry-After" in refused.headers) == (429, False)


def test_pause_and_resume_answer_as_they_should(raw: Raw) -> None:
    box = raw.create()
    assert box.api("POST", "/resume", {}).status_code == 409
    assert box.api("POST", "/pause", {}).status_code == 204
    assert box.api("POST", "/pause").status_code == 409
    assert (box.api("GET").json()["state"], box.api("POST", "/timeout", {"timeout": 5}).status_code) == ("paused", 409)
    again = box.api("POST", "/connect", {"timeout": 60})
    assert (again.status_code, again.json()["envdAccessToken"]) == (201, box.made["envdAccessToken"])
    assert box.api("POST", "/connect", {"timeout": 60}).status_code == 200
    box.api("POST", "/pause", {"memory": False})
    assert box.api("GET").json()["pauseMode"] == "filesystem"
    assert box.api("DELETE").status_code == 204
    assert box.api("DELETE").status_code == 404


def test_older_servers_have_no_second_generation() -> None:
    with serving(v2=False) as emulator, Raw(emulator) as raw:
        answer: httpx.Response = raw.api("POST", "/v2/sandboxes", BASE)
        assert answer.status_code == 404
        raw.create()
