"""Answers and failures, as our errors. Time budget: 2 s."""

from __future__ import annotations

import errno

import httpx
import pytest

from gitmachine import (
    AuthenticationError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    QuotaError,
)
from gitmachine_e2b._errors import (
    Broken,
    Refusal,
    errno_of,
    machine_error,
    machine_errors,
    refusal_of,
    stream_refusal,
    transport_errors,
)
from gitmachine_e2b._records import RecordError


def refusal(status, body=b"", **headers):
    return refusal_of(status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), body)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (404, b'{"code": "not_found", "message": "no file"}', "not_found", "no file"),
        (404, b'{"code": 404, "message": "no sandbox"}', "not_found", "no sandbox"),
        (502, b'{"code": 404, "message": "odd"}', "not_found", "odd"),  # the body's word counts
        (500, b"plain\n text", "internal", "plain text"),
        (503, b"<html><h1>busy</h1></html>", "unavailable", "HTML"),
        (502, b"", "unavailable", "Bad Gateway"),
        (599, b"", "unknown", "no reason"),
        (400, b'"just text"', "invalid_argument", "just text"),
        (400, b"[1]", "invalid_argument", "[1]"),
        (400, b"\xff\xfe", "invalid_argument", "\ufffd"),
        (500, b'{"code": true, "message": null}', "internal", "None"),
        (429, b"x" * 10_000, "resource_exhausted", "…"),
    ],
)
def test_any_body_is_a_refusal(status, body, code, message):
    found = refusal(status, body)
    assert (found.status, found.code) == (status, code)
    assert message in found.message
    assert len(found.message) < 400


def test_a_refusal_tells_the_finer_code_and_how_long_to_wait():
    found = refusal(503, b'{"code":503,"message":"m","error_code":"sandbox_capacity_unavailable"}', retry_after="7")
    assert (found.error_code, found.retry_after) == ("sandbox_capacity_unavailable", 7.0)
    assert refusal(429, retry_after="soon").retry_after is None
    assert refusal(429).retry_after is None


def test_the_end_of_a_stream_is_a_refusal():
    assert stream_refusal({"code": "not_found", "message": "m"}).code == "not_found"
    assert stream_refusal("odd").code == "unknown"


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (refusal(401, b'{"code":401,"message":"bad key"}'), AuthenticationError),
        (refusal(429, b'{"code":429,"message":"slow"}', retry_after="3"), QuotaError),
        (refusal(404, b'{"code":404,"message":"gone"}'), MachineLostError),
        (refusal(502, b'{"message":"The sandbox was not found"}'), MachineLostError),
        (refusal(409, b'{"code":409,"message":"in transition"}'), InvalidStateError),
        (refusal(500, b"oops"), MachineError),
        (Broken("cut", sent=True), MachineLostError),
        (RecordError("odd"), MachineError),
    ],
)
def test_each_problem_is_one_of_ours_and_names_the_sandbox(problem, expected):
    ours = machine_error(problem, "iabc", "set_timeout")
    assert type(ours) is expected
    assert (ours.machine_id, ours.provider, ours.operation) == ("iabc", "e2b", "set_timeout")
    assert "iabc" in str(ours)
    with pytest.raises(expected) as info, machine_errors("iabc", "get"):
        raise problem
    assert info.value.__cause__ is problem


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.ReadTimeout("slow"), True),
        (httpx.ReadError("cut"), True),
        (httpx.WriteError("cut"), True),
        (httpx.RemoteProtocolError("Server disconnected"), True),
        (httpx.DecodingError("gzip"), True),
        (httpx.UnsupportedProtocol("x"), False),
        (httpx.InvalidURL("x"), False),
    ],
)
def test_errors_of_the_transport_tell_whether_anything_was_sent(error, sent):
    with pytest.raises(Broken) as info, transport_errors():
        raise error
    assert info.value.sent is sent
    assert info.value.reason


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("ls: cannot access '/x': No such file or directory", errno.ENOENT),
        ("mkdir: cannot create directory 'Is a directory': Not a directory", errno.ENOTDIR),
        ("sh: 3: cannot create /x: Permission denied", errno.EACCES),
        ("base64: write error: No space left on device", errno.ENOSPC),
        ("something else", errno.EIO),
    ],
)
def test_the_kernels_reason_is_read_from_what_a_tool_says(text, number):
    assert errno_of(text) == number


def test_a_refusal_of_a_stream_is_not_taken_for_a_proxys():
    assert not Refusal("m", status=200, code="unavailable").unreachable
    assert refusal(503).unreachable
