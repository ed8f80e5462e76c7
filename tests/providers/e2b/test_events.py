"""Messages of a process's stream. Time budget: 5 s."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine_e2b._events import Ended, Other, Output, Started, decode_event, exit_code
from gitmachine_e2b._records import RecordError


def payload(event, **options):
    return json.dumps({"event": event}, **options).encode()


@given(st.sampled_from(["stdout", "stderr", "pty"]), st.binary(max_size=200), st.booleans())
def test_output_is_exact_with_and_without_spaces_in_the_json(kind, data, spaces):
    options = {} if spaces else {"separators": (",", ":")}
    assert decode_event(payload({"data": {kind: base64.b64encode(data).decode()}}, **options)) == Output(kind, data)


def test_unknown_fields_beside_the_output_change_nothing():
    text = b'{"event":{"data":{"stdout":"aGk="},"more":{"a":"b"}}}'
    assert decode_event(text) == Output("stdout", b"hi")
    assert decode_event(b'{"extra":1,"event":{"data":{"stdout":"aGk="}}}') == Output("stdout", b"hi")
    assert decode_event(b'{"event":{"data":{"stdout":"aGk=","x":"y"}}}') == Output("stdout", b"hi")


def test_start_tells_the_pid():
    assert decode_event(payload({"start": {"pid": 24657}})) == Started(24657)


def test_signs_of_life_and_what_is_not_known_are_let_pass():
    for event in ({"keepalive": {}}, {"brandNew": {"x": 1}}, {}, {"data": {"video": "x"}}):
        assert decode_event(payload(event)) == Other()
    assert decode_event(b"{}") == Other()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"exited": True, "status": "exit status 0"}, 0),
        ({"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}, 3),
        ({"exitCode": 255, "exited": True}, 255),
        ({"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}, 137),
        ({"exitCode": -1, "status": "signal: terminated"}, 143),
        ({"exitCode": -1, "status": "signal: segmentation fault (core dumped)"}, 139),
        ({"exitCode": -1, "status": "signal: user defined signal 1"}, 138),
        ({"exitCode": -1, "status": "signal: signal 34"}, 162),
        ({"exitCode": -1, "error": "signal: interrupt"}, 130),
        ({"exitCode": -1}, 137),
    ],
)
def test_an_end_is_an_exit_code(end, code):
    assert exit_code(end) == code
    assert decode_event(payload({"end": end})) == Ended(code)


@pytest.mark.parametrize("bad", [b"", b"x", b"[]", b'{"event":[]}', b'{"event":{"data":{"stdout":"a"}}}', b"\xff"])
def test_what_is_no_message_is_a_record_error(bad):
    try:
        event = decode_event(bad)
    except RecordError:
        return
    assert event == Other()
