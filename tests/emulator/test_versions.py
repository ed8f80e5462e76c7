"""What older daemons do and do not (reference, section 3).

Time budget: 4 s.
"""

from __future__ import annotations

import base64

import pytest

from support.e2b.raw import Raw
from support.e2b.versions import at_least

pytestmark = pytest.mark.requires("e2b-emulator")
USER = {"Authorization": "Basic " + base64.b64encode(b"user:").decode()}
OCTETS = {"Content-Type": "application/octet-stream"}


def test_versions_are_numbers() -> None:
    assert at_least("0.10.0", "0.9.1")
    assert not at_least("0.5.6", "0.5.7")
    assert at_least("v0.5.7-dev", "0.5.7")


def test_before_0_3_stdin_is_always_open(raw: Raw) -> None:
    box = raw.create(templateID="envd:0.2.9")
    with box.start("read x && echo $x", headers=USER) as response:
        from support.e2b.raw import events

        stream = events(response)
        pid = next(stream)[1]["event"]["start"]["pid"]
        message = {"process": {"pid": pid}, "input": {"stdin": "aGkK"}}
        assert box.unary("process.Process/SendInput", message).status_code == 200
        assert next(stream)[1]["event"]["data"] == {"stdout": "aGkK"}
        assert box.unary("process.Process/CloseStdin", message).status_code == 404


def test_before_0_4_there_is_no_default_user(raw: Raw) -> None:
    box = raw.create(templateID="envd:0.3.9")
    assert box.run("true").error["code"] == "unauthenticated"
    assert box.run("id -un", headers=USER).output() == b"user\n"
    assert box.read("x").status_code == 401
    assert box.read("x", params={"username": "user"}).status_code == 404
    assert raw.create(templateID="envd:0.4.0").run("id -un").output() == b"user\n"


def test_before_0_5_there_are_no_snapshots(raw: Raw) -> None:
    assert raw.create(templateID="envd:0.4.9").api("POST", "/snapshots", {}).status_code == 400


def test_before_0_5_7_there_is_no_octet_stream(raw: Raw) -> None:
    for version, status in (("0.5.6", 400), ("0.5.7", 200)):
        box = raw.create(templateID=f"envd:{version}")
        answer = box.request("POST", "/files", params={"path": "/tmp/x"}, headers=OCTETS, content=b"x")
        assert answer.status_code == status


def test_before_0_6_3_events_have_no_entries(raw: Raw) -> None:
    for version, there in (("0.6.2", False), ("0.6.3", True)):
        box = raw.create(templateID=f"envd:{version}")
        watch = {"path": "/tmp", "includeEntry": True}
        watcher = box.unary("filesystem.Filesystem/CreateWatcher", watch).json()
        box.write("/tmp/x", b"1")
        events = []
        while not events:
            events = box.unary("filesystem.Filesystem/GetWatcherEvents", watcher).json().get("events", [])
        assert ("entry" in events[0]) == there
