"""Every fault does what its name says, as often as it was told.

Time budget: 8 s.
"""

from __future__ import annotations

import time

import httpx
import pytest

from support.e2b.faults import Fault
from support.e2b.raw import CONNECT, Raw, envelope, events, frames, outcome

pytestmark = pytest.mark.requires("e2b-emulator")
START = "/process.Process/Start"
CREATE = {"templateID": "base", "timeout": 60}


def test_a_fault_strikes_a_pattern_a_number_of_times(raw: Raw) -> None:
    fault = raw.emulator.faults.add("status", path="/sandboxes$", method="^GET$", skip=1, count=2, status=503)
    statuses = [raw.api("GET", "/v2/sandboxes").status_code for _ in range(5)]
    assert (statuses, fault.struck) == ([200, 503, 503, 200, 200], 2)
    assert raw.api("GET", "/snapshots").status_code == 200
    with pytest.raises(ValueError, match="unknown fault 'wrong'"):
        Fault(kind="wrong")  # type: ignore[arg-type]


def test_a_status_comes_with_any_headers_and_body_before_or_after_acting(raw: Raw) -> None:
    page = {"headers": {"Content-Type": "text/html", "Retry-After": "1"}, "body": "<html>"}
    raw.emulator.faults.add("status", path="/sandboxes", status=429, **page)
    answer = raw.api("POST", "/sandboxes", CREATE)
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (429, "<html>", "1")
    assert raw.emulator.sandbox_ids == []
    raw.emulator.faults.add("status", path="/sandboxes", status=502, when="after")
    assert raw.api("POST", "/sandboxes", CREATE).status_code == 502
    [sandbox_id] = raw.emulator.sandbox_ids
    raw.api("DELETE", f"/sandboxes/{sandbox_id}")


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_a_cut_comes_before_or_after_acting(raw: Raw, when: str, made: int) -> None:
    raw.emulator.faults.add("cut", path="/sandboxes", when=when)
    with pytest.raises(httpx.RemoteProtocolError):
        raw.api("POST", "/sandboxes", CREATE)
    assert len(raw.emulator.sandbox_ids) == made
    for sandbox_id in raw.emulator.sandbox_ids:
        raw.api("DELETE", f"/sandboxes/{sandbox_id}")


@pytest.mark.parametrize(("when", "acted"), [("before", 404), ("after", 200)])
def test_a_cut_strikes_the_data_plane_too(raw: Raw, when: str, acted: int) -> None:
    box = raw.create()
    raw.emulator.faults.add("cut", path=START, when=when)
    with pytest.raises(httpx.RemoteProtocolError):
        box.run("touch /tmp/acted")
    assert box.read("/tmp/acted").status_code == acted


def test_a_body_is_cut_within(raw: Raw) -> None:
    box = raw.create()
    box.write("/tmp/f", b"0123456789")
    raw.emulator.faults.add("cut", path="/files", nbytes=4)
    seen = b""
    with (
        raw.http.stream(
            "GET",
            f"{raw.emulator.sandbox_url}/files",
            params={"path": "/tmp/f"},
            headers={**box.headers, "Accept-Encoding": "identity"},
        ) as response,
    ):
        chunks = response.iter_raw()
        while len(seen) < 4:
            seen += next(chunks)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert seen == b"0123"
    raw.emulator.faults.add("cut", path=START, frames=2)
    with box.start("echo 1; sleep 100") as response:
        stream = events(response)
        assert [next(iter(next(stream)[1]["event"])) for _ in range(2)] == ["start", "data"]
        with pytest.raises(httpx.RemoteProtocolError):
            next(stream)


def test_a_silent_peer_never_answers_or_stops_answering(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("silent", path=START)
    with pytest.raises(httpx.ReadTimeout):
        raw.http.post(f"{raw.emulator.sandbox_url}{START}", headers=box.headers, timeout=0.3)
    raw.emulator.faults.add("silent", path="/v2/sandboxes")
    with pytest.raises(httpx.ReadTimeout):
        raw.http.get(f"{raw.emulator.api_url}/v2/sandboxes", headers={"X-API-Key": raw.emulator.api_key}, timeout=0.3)
    raw.emulator.faults.add("silent", path=START, frames=1)
    body = envelope({"process": {"cmd": "/bin/echo"}, "stdin": False})
    headers = {**box.headers, "Content-Type": CONNECT}
    url = f"{raw.emulator.sandbox_url}{START}"
    with raw.http.stream("POST", url, headers=headers, content=body, timeout=4) as response:
        stream = events(response)
        assert "start" in next(stream)[1]["event"]
        with pytest.raises(httpx.ReadTimeout):
            next(stream)


def test_frames_come_byte_by_byte(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("split", path=START)
    with box.start("echo hi") as response:
        chunks = list(response.iter_raw())
    assert max(len(chunk) for chunk in chunks) <= 16
    assert outcome(b"".join(chunks)).output() == b"hi\n"
    raw.emulator.faults.add("split", path=START)
    assert box.run("head -c 300000 /dev/zero").output() == bytes(300000)


def test_frames_come_together(raw: Raw) -> None:
    raw.emulator.faults.add("coalesce", path=START, seconds=0.3)
    with raw.create().start("echo hi") as response:
        chunks = list(response.iter_raw())
    assert len(frames(chunks[-1])) >= 2
    assert outcome(b"".join(chunks)).end["exited"] is True


def test_ends_go_missing(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("no-end", path=START)
    found = box.run("echo hi")
    assert ([next(iter(event)) for event in found.events], found.eos) == (["start", "data"], {})
    raw.emulator.faults.add("no-eos", path=START)
    found = box.run("echo hi")
    assert (found.end["exited"], found.eos) == (True, None)


def test_streams_end_in_errors(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("eos-error", path=START, code="unavailable", message="lost")
    found = box.run("exit 3")
    assert (found.end["exitCode"], found.error) == (3, {"code": "unavailable", "message": "lost"})
    raw.emulator.faults.add("eos-error", path=START, frames=1)
    found = box.run("sleep 1000")
    assert ([next(iter(event)) for event in found.events], found.error["code"]) == (["start"], "unavailable")


def test_unknown_things_are_added(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("unknown", count=None)
    assert box.api("GET").json()["futureField"] == {"value": [1, 2]}
    assert box.unary("process.Process/List", {}).json()["futureField"] == {"value": [1, 2]}
    found = box.run("echo hi")
    assert {"futureEvent": {"value": 1}} in found.events
    assert found.output() == b"hi\n"


def test_answers_come_late_and_keepalives_not_at_all(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.faults.add("delay", path="/health", seconds=0.3)
    began = time.monotonic()
    box.request("GET", "/health")
    assert time.monotonic() - began >= 0.3
    raw.emulator.faults.add("no-keepalive", path=START)
    found = box.run("sleep 1.5", headers={"Keepalive-Ping-Interval": "1"})
    assert [next(iter(event)) for event in found.events] == ["start", "end"]
    raw.emulator.faults.add("delay", path=START, seconds=0.1, each=True)
    began = time.monotonic()
    box.run("echo hi")
    assert time.monotonic() - began >= 0.4
