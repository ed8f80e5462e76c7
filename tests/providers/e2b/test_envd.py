"""The daemon on the wire: each call is what it takes, byte for byte; how streams end. Time budget: 40 s."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest

from gitmachine_e2b import _envd
from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b._envd import Address, Envd, at_least
from gitmachine_e2b._errors import Broken, Refusal
from gitmachine_e2b._events import Ended, Output, Started, decode_event
from gitmachine_e2b._frames import encode
from providers.e2b.conftest import eventually

RPC = {"connect-protocol-version": "1", "e2b-sandbox-port": "49983"}


@pytest.fixture
async def api(emulator):
    api = ControlPlane(emulator.api_url, emulator.api_key)
    yield api
    emulator.faults.clear()
    for sandbox_id in emulator.sandbox_ids:
        await api.kill(sandbox_id)
    await api.close()


async def make(api, emulator, **body):
    fields = {"templateID": "base", "timeout": 300, "secure": True, "metadata": {}, "envVars": {"G": "1"}, **body}
    sandbox = await api.create(fields)
    address = Address(
        url=emulator.sandbox_url, sandbox_id=sandbox.id, version=sandbox.envd_version, token=sandbox.envd_token
    )
    emulator.requests.clear()
    return Envd(address, seconds=30)


@pytest.fixture
async def envd(api, emulator):
    envd = await make(api, emulator)
    yield envd
    await envd.close()


def start(script, **fields):
    return {"process": {"cmd": "/bin/sh", "args": ["-c", script], **fields}, "stdin": False}


async def events(envd, message, method="process.Process/Start", **options):
    async with envd.stream(method, message, **options) as messages:
        return [decode_event(payload) async for payload in messages]


@pytest.mark.parametrize(
    ("version", "wanted", "answer"),
    [
        ("0.6.13", (0, 5, 7), True),
        ("0.5.7", (0, 5, 7), True),
        ("0.5.10", (0, 5, 7), True),
        ("0.4.99", (0, 5, 7), False),
        ("0.5", (0, 5, 7), False),
        ("1.0.0-rc.1", (0, 6, 0), True),
        ("v0.6.2+build", (0, 6, 2), True),
        ("", (9, 9, 9), True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, wanted, answer):
    assert at_least(version, *wanted) is answer


def test_a_daemon_without_a_default_user_is_told_one():
    new = Address(url="http://x", sandbox_id="i", version="0.4.0")
    old = Address(url="http://x", sandbox_id="i", version="0.3.9")
    assert (new.acting(None), old.acting(None), old.acting("root")) == (None, "user", "root")
    assert Address(url="http://x", sandbox_id="i", version="0.3.9", user="me").acting(None) == "me"


def test_an_address_does_not_show_its_token():
    assert "hush" not in repr(Address(url="http://x", sandbox_id="i", token="hush"))


async def test_a_stream_sends_one_envelope_and_no_time_limit(emulator, envd):
    found = await events(envd, start("echo hi; echo err >&2; exit 3"))
    assert isinstance(found[0], Started)
    assert b"".join(one.data for one in found if isinstance(one, Output) and one.kind == "stdout") == b"hi\n"
    assert b"".join(one.data for one in found if isinstance(one, Output) and one.kind == "stderr") == b"err\n"
    assert found[-1] == Ended(3)
    record = emulator.requests[-1]
    assert (record.method, record.path, record.query_string) == ("POST", "/process.Process/Start", "")
    payload = b'{"process":{"cmd":"/bin/sh","args":["-c","echo hi; echo err >&2; exit 3"]},"stdin":false}'
    assert record.body == encode(payload)
    headers = record.headers
    assert headers["content-type"] == "application/connect+json"
    assert headers["keepalive-ping-interval"] == str(_envd.PING_SECONDS)
    assert headers["x-access-token"] == envd.address.token
    assert headers["e2b-sandbox-id"] == envd.address.sandbox_id
    assert RPC.items() <= headers.items()
    # the one would kill the command, the others would compress or rewrite
    assert not {"connect-timeout-ms", "connect-accept-encoding", "content-encoding", "authorization"} & set(headers)
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] != "connect-python"


async def test_a_user_is_named_by_basic_authorization(emulator, envd):
    found = await events(envd, start("id -un"), user="root")
    assert emulator.requests[-1].headers["authorization"] == "Basic cm9vdDo="
    assert found[1] == Output("stdout", b"root\n")


async def test_an_older_daemon_is_told_its_user(emulator, api):
    envd = await make(api, emulator, templateID="envd:0.3.9")
    try:
        await events(envd, start("true"))
    finally:
        await envd.close()
    assert emulator.requests[-1].headers["authorization"] == "Basic " + base64.b64encode(b"user:").decode()


async def test_calls_send_json_of_a_fixed_length(emulator, envd):
    async def sent(call):
        await call
        record = emulator.requests[-1]
        assert record.headers["content-type"] == "application/json"
        assert record.headers["content-length"] == str(record.body_bytes)
        assert record.headers["x-access-token"] == envd.address.token
        assert RPC.items() <= record.headers.items()
        return record.path, record.json

    async with envd.stream("process.Process/Start", {**start("cat; sleep 60"), "stdin": True}) as messages:
        pid = decode_event(await anext(messages)).pid
        assert await sent(envd.processes()) == ("/process.Process/List", {})
        assert [process.pid for process in await envd.processes()] == [pid]
        path, json = await sent(envd.send_input(pid, b"hello\n"))
        assert (path, json) == (
            "/process.Process/SendInput",
            {"process": {"pid": pid}, "input": {"stdin": "aGVsbG8K"}},
        )
        assert decode_event(await anext(messages)) == Output("stdout", b"hello\n")
        assert await sent(envd.close_stdin(pid)) == ("/process.Process/CloseStdin", {"process": {"pid": pid}})
        path, json = await sent(envd.send_signal(pid))
        assert (path, json) == (
            "/process.Process/SendSignal",
            {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"},
        )
        assert Ended(137) in [decode_event(payload) async for payload in messages]
    await eventually(lambda: _gone(envd, pid), "the process is forgotten")


async def _gone(envd, pid):
    return not [process for process in await envd.processes() if process.pid == pid]


async def test_a_signal_for_nobody_is_told(envd):
    assert await envd.send_signal(999_999) is False


async def test_input_goes_in_as_a_stream_too(emulator, envd):
    async with envd.stream("process.Process/Start", {**start("head -c 200000 | wc -c"), "stdin": True}) as messages:
        pid = decode_event(await anext(messages)).pid

        async def chunks():
            yield {"start": {"process": {"pid": pid}}}
            for _ in range(4):
                yield {"data": {"input": {"stdin": base64.b64encode(b"x" * 50_000).decode()}}}

        await envd.stream_input(chunks())
        found = [decode_event(payload) async for payload in messages]
    assert found[0] == Output("stdout", b"200000\n")
    assert emulator.requests[-1].path == "/process.Process/StreamInput"
    assert emulator.requests[-1].headers["transfer-encoding"] == "chunked"


async def test_a_terminal_has_a_size_that_changes(emulator, envd):
    message = {
        "process": {"cmd": "/bin/sh", "args": ["-c", "stty size; read x; stty size"]},
        "pty": {"size": {"cols": 91, "rows": 33}},
    }
    output = b""
    async with envd.stream("process.Process/Start", message) as messages:
        async for payload in messages:
            event = decode_event(payload)
            if isinstance(event, Started):
                pid = event.pid
            elif isinstance(event, Output):
                assert event.kind == "pty"
                output += event.data
                if output == b"33 91\r\n":
                    await envd.resize(pid, 140, 50)
                    assert emulator.requests[-1].json == {
                        "process": {"pid": pid},
                        "pty": {"size": {"cols": 140, "rows": 50}},
                    }
                    await envd.send_input(pid, b"\n", pty=True)
    assert output.endswith(b"50 140\r\n")


async def test_a_process_is_followed_again_by_its_pid(envd):
    async with envd.stream("process.Process/Start", start("sleep 0.2; exit 4")) as messages:
        pid = decode_event(await anext(messages)).pid
    found = await events(envd, {"process": {"pid": pid}}, "process.Process/Connect")
    assert (found[0], found[-1]) == (Started(pid), Ended(4))
    found = await events(envd, {"process": {"pid": pid}}, "process.Process/Connect")  # kept for a while
    assert found == [Started(pid), Ended(4)]


@pytest.mark.parametrize(
    ("message", "user", "code"),
    [
        (start("true", cwd="/nowhere"), None, "invalid_argument"),
        (start("true"), "nosuchuser", "unauthenticated"),
    ],
)
async def test_a_stream_that_fails_says_so_at_its_end(envd, message, user, code):
    with pytest.raises(Refusal) as info:
        await events(envd, message, user=user)
    assert (info.value.code, info.value.status) == (code, 200)


async def test_a_wrong_token_is_refused_before_anything_runs(emulator, envd):
    other = Envd(Address(url=emulator.sandbox_url, sandbox_id=envd.address.sandbox_id, token="wrong"), seconds=30)
    try:
        with pytest.raises(Refusal) as info:
            await events(other, start("true"))
        with pytest.raises(Refusal) as again:
            await other.processes()
    finally:
        await other.close()
    for problem in (info.value, again.value):
        assert (problem.status, problem.code) == (401, "unauthenticated")


async def test_a_stream_without_its_last_frame_is_broken(emulator, envd):
    emulator.faults.add("no-eos", path="Start")
    with pytest.raises(Broken):
        await events(envd, start("true"))


async def test_a_stream_cut_within_a_frame_is_broken(emulator, envd):
    emulator.faults.add("cut", path="Start", frames=1)
    with pytest.raises(Broken):
        await events(envd, start("echo x; sleep 60"))


async def test_a_stream_that_a_proxy_ends_says_unavailable(emulator, envd):
    emulator.faults.add("eos-error", path="Start", frames=1, code="unavailable", message="upstream")
    with pytest.raises(Refusal) as info:
        await events(envd, start("sleep 60"))
    assert info.value.code == "unavailable"


async def test_a_quiet_stream_is_kept_by_signs_of_life(monkeypatch, envd):
    monkeypatch.setattr(_envd, "PING_SECONDS", 1)
    monkeypatch.setattr(_envd, "SILENCE_SECONDS", 2.5)
    found = await events(envd, start("sleep 4"))
    assert found[-1] == Ended(0)


async def test_a_silent_peer_is_given_up(monkeypatch, emulator, envd):
    monkeypatch.setattr(_envd, "PING_SECONDS", 1)
    monkeypatch.setattr(_envd, "SILENCE_SECONDS", 1.5)
    emulator.faults.add("silent", path="Start", frames=1)
    began = time.monotonic()
    with pytest.raises(Broken, match="no answer"):
        await events(envd, start("sleep 600"))
    assert time.monotonic() - began < 30


async def test_a_stream_that_is_left_is_closed(envd):
    async with envd.stream("process.Process/Start", start("while :; do echo x; done")) as messages:
        await anext(messages)
    assert (await envd.processes()) != ()  # nothing of the connection is in the way


async def test_a_connection_is_used_again_after_a_stream(envd):
    for _ in range(5):
        await events(envd, start("echo x"))
    pool = envd.client._transport._pool
    assert len(pool.connections) == 1


async def test_health_metrics_and_variables_are_asked_for(emulator, envd):
    assert await envd.healthy() is True
    assert emulator.requests[-1].path == "/health"
    metrics = await envd.metrics()
    assert metrics.memory_total > 0
    assert (await envd.variables())["G"] == "1"
    emulator.faults.add("status", path="/health", status=503, body="<html>")
    assert await envd.healthy() is None
    emulator.faults.add("cut", path="/health")
    assert await envd.healthy() is None


async def test_health_of_a_sandbox_that_is_gone(api, envd):
    await api.kill(envd.address.sandbox_id)
    assert await envd.healthy() is False


async def test_calls_at_once_do_not_wait_for_streams(envd):
    async with asyncio.timeout(60):
        streams = [asyncio.ensure_future(events(envd, start("sleep 2"))) for _ in range(30)]
        try:
            await asyncio.gather(*(envd.processes() for _ in range(30)))
            assert not all(stream.done() for stream in streams)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
