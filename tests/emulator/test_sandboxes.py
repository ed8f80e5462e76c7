"""Sandboxes as places: apart from each other and their host, paused, copied, cleared away.

Time budget: 10 s.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.e2b import Emulator, Settings
from support.e2b.raw import Box, Raw, events

pytestmark = pytest.mark.requires("e2b-emulator")
TESTS = Path(__file__).parents[1]


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


def alive(mark: str) -> bool:
    """Say whether a process with this word on its command line runs anywhere on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def test_sandboxes_see_neither_each_other_nor_their_hosts_files(raw: Raw) -> None:
    one, two = raw.create(), raw.create()
    for place in ("/home/user/mine", "/tmp/mine", "/srv/mine", "/mine", "/var/tmp/mine"):
        assert one.run(f"echo 1 > {place}", headers=as_root()).end["status"] == "exit status 0"
        assert two.read(place).status_code == 404
        assert not Path(place).exists()
    assert one.run("touch /usr/mine", headers=as_root()).end["exitCode"] != 0
    assert one.run("ls -d /proc/[0-9]* | wc -l").output().strip() in {b"3", b"4"}
    assert one.run("id -un; cd; pwd; cat /proc/1/comm | wc -l").output().startswith(b"user\n/home/user\n1")


def as_root() -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(b"root:").decode()}


def test_killing_a_sandbox_kills_whatever_it_left(raw: Raw) -> None:
    box = raw.create()
    box.run("setsid sleep 81231 > /dev/null 2>&1 < /dev/null & sh -c 'sleep 81232 & wait' > /dev/null 2>&1 &")
    until(lambda: alive("81231") and alive("81232"))
    box.api("DELETE")
    assert not alive("81231")
    assert not alive("81232")


def test_a_pause_stops_every_process_and_cuts_streams(raw: Raw) -> None:
    box = raw.create()
    box.run("(while :; do date +%N > c; mv c count; sleep 0.01; done) > /dev/null 2>&1 &")
    with box.start("sleep 300") as response:
        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        until((raw_path(raw, box) / "home/user/count").exists)
        assert box.api("POST", "/pause", {}).status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            next(stream)
    count = raw_path(raw, box) / "home/user/count"
    before = count.read_text()
    time.sleep(0.2)
    assert count.read_text() == before
    assert box.request("GET", "/health").status_code == 502
    assert box.api("POST", "/connect", {"timeout": 60}).status_code == 201
    until(lambda: count.read_text() != before)
    with box.stream("process.Process/Connect", {"process": {"pid": pid}}) as response:
        assert next(events(response))[1]["event"]["start"]["pid"] == pid


def raw_path(raw: Raw, box: Box) -> Path:
    assert raw.emulator.sandboxes is not None
    sandbox = raw.emulator.sandboxes.get(box.id)
    assert sandbox is not None
    return sandbox.tree


def test_traffic_wakes_only_what_resumes_by_itself(raw: Raw) -> None:
    box = raw.create(autoPause=True, autoResume={"enabled": True})
    box.api("POST", "/pause", {})
    assert box.request("GET", "/health", headers={"X-Access-Token": "wrong"}).status_code == 403
    assert box.api("GET").json()["state"] == "paused"
    assert box.request("GET", "/health").status_code == 204
    assert box.api("GET").json()["state"] == "running"
    box.api("POST", "/pause", {"memory": False})
    assert box.request("GET", "/health").status_code == 502


def test_snapshots_hold_files_of_their_moment(raw: Raw) -> None:
    box = raw.create()
    box.run("echo old > f; chmod 711 f; ln -s f link")
    assert raw.api("POST", f"/sandboxes/{box.id}/snapshots").status_code == 400
    made = box.api("POST", "/snapshots", {"name": "snap"})
    assert (made.status_code, made.json()) == (201, {"snapshotID": "team/snap:default", "names": ["team/snap"]})
    unnamed = box.api("POST", "/snapshots", {}).json()
    assert unnamed["names"] == []
    box.run("echo new > f")
    for reference in ("team/snap:default", "team/snap", "snap", unnamed["snapshotID"]):
        copy = raw.create(templateID=reference)
        assert copy.run("stat -c '%a %U' f; cat link").output() == b"711 user\nold\n"
    assert len(raw.api("GET", "/snapshots").json()) == 2
    page = raw.api("GET", "/snapshots", params={"limit": "1"})
    assert (page.json(), bool(page.headers["X-Next-Token"])) == ([unnamed], True)
    assert raw.api("GET", "/snapshots", params={"name": "snap"}).json() == [made.json()]
    assert raw.api("DELETE", "/templates/team%2Fsnap%3Adefault").status_code == 204
    assert raw.api("DELETE", "/templates/team%2Fsnap%3Adefault").status_code == 404
    raw.api("DELETE", f"/templates/{unnamed['snapshotID']}")
    box.api("POST", "/pause", {})
    assert box.api("POST", "/snapshots", {}).status_code == 409


def test_forks_are_new_sandboxes_with_the_same_files(raw: Raw) -> None:
    box = raw.create()
    box.run("echo 1 > f")
    answer = box.api("POST", "/fork", {"count": 2, "timeout": 100})
    forks = [raw.box(row["sandbox"]) for row in answer.json()]
    assert len({box.made["envdAccessToken"], *(fork.made["envdAccessToken"] for fork in forks)}) == 3
    forks[0].run("echo 2 > f")
    assert [one.read("/home/user/f").text for one in (box, *forks)] == ["1\n", "2\n", "1\n"]
    assert box.api("POST", "/fork", {"count": 101}).status_code == 400
    old = raw.create(templateID="envd:0.4.9")
    assert old.api("POST", "/fork", {}).status_code == 400


def test_an_emulator_of_its_own_process_leaves_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "support.e2b", "--settings", '{"envd_version": "0.6.2"}']
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            shown = json.loads(process.stdout.readline())
            headers = {"X-API-Key": shown["api_key"]}
            made = httpx.post(
                f"{shown['api_url']}/sandboxes", json={"templateID": "base"}, headers=headers, trust_env=False
            )
            assert made.json()["envdVersion"] == "0.6.2"
            path, body = f"{shown['api_url']}/_emulator/faults", {"kind": "status", "status": 418, "path": "sandboxes"}
            assert httpx.post(path, json=body, trust_env=False).status_code == 201
            struck = httpx.get(f"{shown['api_url']}/v2/sandboxes", headers=headers, trust_env=False)
            assert struck.status_code == 418
            seen = httpx.get(f"{shown['api_url']}/_emulator/requests", trust_env=False).json()
            assert [(row["method"], row["status"]) for row in seen] == [("POST", 201), ("GET", 418)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert list(tmp_path.iterdir()) == []
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _text(path)]


@pytest.mark.requires("sandbox", "setpriv")
def test_without_the_right_to_mount_a_sandbox_is_a_user_namespace() -> None:
    drop = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"] if os.getuid() == 0 else []
    argv = [*drop, sys.executable, "-m", "support.e2b"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            shown = json.loads(process.stdout.readline())
            there = Emulator(settings=Settings(), api_url=shown["api_url"], sandbox_url=shown["sandbox_url"])
            with Raw(there) as raw:
                box = raw.create()
                assert box.run("id -un; pwd; ls -d /proc/[0-9]* | wc -l").output().startswith(b"user\n/home/user\n")
                box.write("/home/user/x", b"1")
                assert box.api("POST", "/pause", {}).status_code == 204
                assert box.api("POST", "/connect", {"timeout": 60}).status_code == 201
                assert box.run("cat x").output() == b"1"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
