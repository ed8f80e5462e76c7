"""The Connect protocol as envd speaks it: content types, envelopes, compression, names, deadlines.

Time budget: 3 s.
"""

from __future__ import annotations

import gzip
import json
import struct

import pytest

from support.e2b.raw import CONNECT, Raw, envelope, frames, outcome

pytestmark = pytest.mark.requires("e2b-emulator")
START = {"process": {"cmd": "/bin/echo", "args": ["hi"]}, "stdin": False}


def test_a_stream_with_the_wrong_content_type_is_415_without_a_body(raw: Raw) -> None:
    answer = raw.create().unary("process.Process/Start", START)
    assert (answer.status_code, answer.content) == (415, b"")
    assert answer.headers["Accept-Post"] == CONNECT


def test_an_empty_body_and_an_unknown_method_are_refused(raw: Raw) -> None:
    box = raw.create()
    headers = {"Content-Type": "application/json"}
    empty = box.request("POST", "/process.Process/List", headers=headers)
    assert (empty.status_code, empty.json()["code"]) == (400, "invalid_argument")
    assert box.request("POST", "/process.Process/Nothing", headers=headers).status_code == 404
    assert box.request("GET", "/process.Process/List").status_code == 405


def test_a_missing_token_is_plain_http_401_also_for_streams(raw: Raw) -> None:
    box = raw.create()
    del box.headers["X-Access-Token"]
    with box.start("true") as response:
        body = json.loads(response.read())
    assert (response.status_code, body["code"]) == (401, 401)


def test_an_error_of_a_stream_is_its_only_frame_with_status_200(raw: Raw) -> None:
    with raw.create().start("true", process={"cwd": "/nowhere"}) as response:
        found = frames(response.read())
    error = {"code": "invalid_argument", "message": "cwd '/nowhere' does not exist"}
    assert (response.status_code, found) == (200, [(2, {"error": error})])


def test_frames_are_compressed_only_when_the_client_offers_it(raw: Raw) -> None:
    box = raw.create()
    with box.stream("process.Process/Start", START, **{"Connect-Accept-Encoding": "gzip"}) as response:
        data = response.read()
    flags = []
    while data:
        flag, length = struct.unpack_from(">BI", data)
        json.loads(gzip.decompress(data[5 : 5 + length]))
        flags.append(flag)
        data = data[5 + length :]
    assert flags == [1, 1, 1, 3]


def test_requests_may_come_in_any_chunks(raw: Raw) -> None:
    box = raw.create()
    data = envelope(START)
    pieces = (data[index : index + 1] for index in range(len(data)))
    answer = box.request("POST", "/process.Process/Start", headers={"Content-Type": CONNECT}, content=pieces)
    assert outcome(answer.content).output() == b"hi\n"


def test_names_of_the_protocol_files_are_understood_too(raw: Raw) -> None:
    box = raw.create()
    made = box.unary("filesystem.Filesystem/CreateWatcher", {"path": "/tmp", "include_entry": True}).json()
    answer = box.unary("filesystem.Filesystem/GetWatcherEvents", {"watcher_id": made["watcherId"]})
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("text", ["soon", "-1", "12345678901"])
def test_a_deadline_that_is_no_number_is_an_invalid_argument(raw: Raw, text: str) -> None:
    found = raw.create().run("true", headers={"Connect-Timeout-Ms": text})
    assert found.error["code"] == "invalid_argument"


def test_a_deadline_of_nothing_has_passed_already(raw: Raw) -> None:
    box = raw.create()
    assert box.run("touch /tmp/acted", headers={"Connect-Timeout-Ms": "0"}).error["code"] == "deadline_exceeded"
    assert box.read("/tmp/acted").status_code == 404
