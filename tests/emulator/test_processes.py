"""Processes: ends, signals, deadlines, and who hears what.

Time budget: 20 s.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.e2b.raw import Box, Raw, events, outcome

pytestmark = pytest.mark.requires("e2b-emulator")
SECONDS = 60.0


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


def pids(box: Box) -> set[int]:
    return {process["pid"] for process in box.unary("process.Process/List", {}).json().get("processes", [])}


def select(pid: int, **fields: Any) -> dict[str, Any]:
    return {"process": {"pid": pid}, **fields}


def send(box: Box, pid: int, data: bytes) -> int:
    message = select(pid, input={"stdin": base64.b64encode(data).decode()})
    return box.unary("process.Process/SendInput", message).status_code


def begin(box: Box, script: str, **options: Any) -> int:
    """Start a process and hang up after its first event."""
    with box.start(script, **options) as response:
        _, first = next(events(response))
    return int(first["event"]["start"]["pid"])


def test_ends_are_told_as_envd_tells_them(raw: Raw) -> None:
    box = raw.create()
    assert box.run("exit 0").end == {"exited": True, "status": "exit status 0"}
    three = {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}
    assert box.run("exit 3").end == three
    killed = {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}
    assert box.run("kill -9 $$").end == killed
    missing = box.run("", process={"cmd": "/no/such/program"})
    assert (missing.end["exitCode"], b"not found" in missing.output("stderr")) == (127, True)


def test_output_is_exact_and_comes_in_chunks_of_at_most_32_kib(raw: Raw) -> None:
    found = raw.create().run("head -c 1000000 /dev/zero; printf '\\377\\000' >&2")
    assert found.output() == bytes(1000000)
    assert found.output("stderr") == b"\xff\0"
    sizes = [len(base64.b64decode(value)) for event in found.events for value in event.get("data", {}).values()]
    assert max(sizes) <= 32768


def test_the_environment_is_only_what_the_protocol_says(raw: Raw) -> None:
    box = raw.create(envVars={"GLOBAL": "1", "BOTH": "global"})
    found = box.run("env", process={"envs": {"BOTH": "request"}})
    names = dict(line.split("=", 1) for line in found.output().decode().splitlines())
    names.pop("PWD", None)
    assert names.pop("PATH").startswith("/usr/local/sbin:")
    assert names.pop("E2B_TEMPLATE_ID")
    wanted = {"HOME": "/home/user", "USER": "user", "LOGNAME": "user", "GLOBAL": "1", "BOTH": "request"}
    assert names == {**wanted, "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": box.id}


def test_the_deadline_kills_the_process_though_its_client_is_gone(raw: Raw) -> None:
    box = raw.create()
    pid = begin(box, "sleep 100", headers={"Connect-Timeout-Ms": "1500"})
    until(lambda: pid not in pids(box))
    with box.stream("process.Process/Connect", select(pid)) as response:
        assert outcome(response.read()).end["status"] == "signal: killed"


def test_a_process_outlives_its_client_and_nobody_hears_what_it_said_meanwhile(raw: Raw) -> None:
    box = raw.create()
    pid = begin(box, "echo lost; touch said; read line; echo $line", stdin=True)
    until(lambda: box.read("/home/user/said").status_code == 200)
    with box.stream("process.Process/Connect", select(pid)) as response:
        stream = events(response)
        assert next(stream)[1] == {"event": {"start": {"pid": pid}}}
        assert send(box, pid, b"heard\n") == 200
        rest = [message for _, message in stream]
    assert [event["event"]["data"]["stdout"] for event in rest if "data" in event.get("event", {})] == ["aGVhcmQK"]


def test_the_end_is_retained_for_who_connects_late(raw: Raw) -> None:
    box = raw.create()
    pid = box.run("echo gone; exit 4").pid
    with box.stream("process.Process/Connect", select(pid)) as response:
        late = outcome(response.read())
    assert (late.output(), late.end["exitCode"]) == (b"", 4)
    with box.stream("process.Process/Connect", select(99999)) as response:
        assert outcome(response.read()).error["code"] == "not_found"


def test_all_who_listen_hear_the_same(raw: Raw) -> None:
    box = raw.create()
    with box.start("read line; echo $line; exit 2", stdin=True) as first:
        one = events(first)
        pid = next(one)[1]["event"]["start"]["pid"]
        with box.stream("process.Process/Connect", select(pid)) as second:
            two = events(second)
            next(two)
            send(box, pid, b"both\n")
            assert list(one) == list(two)


def test_a_client_that_does_not_read_holds_the_process_back(raw: Raw) -> None:
    box = raw.create()
    script = "n=0; while :; do head -c 100000 /dev/zero; n=$((n+1)); echo $n > c; mv c count; done"
    with box.start(script) as response:
        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        seen = [""]

        def stalled() -> bool:
            seen.append(box.read("/home/user/count").text)
            time.sleep(0.3)
            return seen[-1] != "" and box.read("/home/user/count").text == seen[-1]

        until(stalled)
    before = int(seen[-1])
    until(lambda: int(box.read("/home/user/count").text or 0) > before)
    box.unary("process.Process/SendSignal", select(pid, signal="SIGNAL_SIGKILL"))


def test_the_end_waits_for_the_pipes_but_not_after_a_signal(raw: Raw) -> None:
    box = raw.create()
    began = time.monotonic()
    assert box.run("sleep 1 & echo x").output() == b"x\n"
    assert time.monotonic() - began > 0.9
    with box.start("sleep 100 & wait") as response:
        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        box.unary("process.Process/SendSignal", select(pid, signal="SIGNAL_SIGKILL"))
        assert "end" in next(stream)[1]["event"]


def test_a_signal_reaches_the_leader_alone(raw: Raw) -> None:
    box = raw.create()
    pid = begin(box, "sleep 1000 & echo $! > c; mv c child; wait")
    child = until(lambda: (found := box.read("/home/user/child")).status_code == 200 and found.text.strip())
    assert box.unary("process.Process/SendSignal", select(pid, signal="SIGNAL_SIGTERM")).json() == {}
    until(lambda: pid not in pids(box))
    assert box.run(f"kill -0 {child}").end["exited"] is True
    assert "exitCode" not in box.run(f"kill -9 {child}").end


def test_only_two_signals_exist(raw: Raw) -> None:
    box = raw.create()
    pid = begin(box, "sleep 100")
    for signal in ("SIGNAL_SIGINT", 2, "SIGNAL_UNSPECIFIED"):
        answer = box.unary("process.Process/SendSignal", select(pid, signal=signal))
        assert (answer.status_code, answer.json()["code"]) == (501, "unimplemented")
    answer = box.unary("process.Process/SendSignal", select(99999, signal="SIGNAL_SIGKILL"))
    assert answer.json() == {"code": "not_found", "message": "process with pid 99999 not found"}


def test_a_process_is_no_group_leader(raw: Raw) -> None:
    # So `setsid program` becomes the program instead of leaving it behind.
    found = raw.create().run("exec setsid sh -c 'echo $$'")
    assert int(found.output()) == found.pid


def test_input_is_taken_closed_and_refused(raw: Raw) -> None:
    box = raw.create()
    with box.start("cat", stdin=True) as response:
        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        big = bytes(range(256)) * 2000
        assert send(box, pid, big) == 200
        assert box.unary("process.Process/CloseStdin", select(pid)).json() == {}
        rest = [message["event"] for _, message in stream if "event" in message]
    data = b"".join(base64.b64decode(event["data"]["stdout"]) for event in rest if "data" in event)
    assert data == big
    closed = begin(box, "sleep 100")
    assert send(box, closed, b"x") == 500
    assert box.unary("process.Process/CloseStdin", select(closed)).json() == {}


def test_tags_are_found_only_while_they_are_alone(raw: Raw) -> None:
    box = raw.create()
    begin(box, "sleep 100", tag="one")
    begin(box, "sleep 100", tag="two")
    message = {"process": {"tag": "two"}, "signal": "SIGNAL_SIGKILL"}
    assert box.unary("process.Process/SendSignal", message).status_code == 404
    message = {"process": {"tag": "one"}, "signal": "SIGNAL_SIGKILL"}
    assert box.unary("process.Process/SendSignal", message).status_code == 200


def test_keepalives_come_as_often_as_asked(raw: Raw) -> None:
    with raw.create().start("sleep 100", headers={"Keepalive-Ping-Interval": "1"}) as response:
        stream = events(response)
        assert [next(iter(next(stream)[1]["event"])) for _ in range(3)] == ["start", "keepalive", "keepalive"]


def test_a_ping_interval_that_is_not_positive_kills_the_daemon(raw: Raw) -> None:
    box = raw.create()
    with (
        pytest.raises(httpx.RemoteProtocolError),
        box.start("sleep 100", headers={"Keepalive-Ping-Interval": "0"}) as response,
    ):
        response.read()
    answer = until(lambda: (found := box.request("GET", "/health")).status_code == 502 and found)
    assert "port is not open" in answer.json()["message"]
    assert box.api("GET").json()["state"] == "running"


def test_a_terminal_has_a_size_that_can_change(raw: Raw) -> None:
    box = raw.create()
    with box.start("stty size; read x; stty size; exit 5", pty={"size": {"cols": 80, "rows": 24}}) as response:
        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        assert base64.b64decode(next(stream)[1]["event"]["data"]["pty"]) == b"24 80\r\n"
        assert box.unary("process.Process/Update", select(pid, pty={"size": {"cols": 9, "rows": 8}})).json() == {}
        box.unary("process.Process/SendInput", select(pid, input={"pty": "Cg=="}))
        rest = [message["event"] for _, message in stream if "event" in message]
    said = b"".join(base64.b64decode(event["data"]["pty"]) for event in rest if "data" in event)
    assert said.endswith(b"8 9\r\n")
    assert rest[-1]["end"]["exitCode"] == 5
    plain = begin(box, "sleep 100")
    assert box.unary("process.Process/Update", select(plain, pty={"size": {"cols": 9, "rows": 8}})).status_code == 500
