"""What goes wrong on the way to E2B: each fault one of our errors, in bounded time, nothing left behind.

Time budget: 90 s.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from gitmachine import (
    AuthenticationError,
    ExecRequest,
    GitMachineError,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
    MachineState,
    MachineUnreachableError,
    QuotaError,
)
from gitmachine.execution import TerminalSize
from gitmachine_e2b import E2BMachine, _births, _envd, _http
from providers.e2b.conftest import config_for, eventually, sh

BOUND_SECONDS = 120
JSON = '{"code": %d, "message": "the service says no"}'
GONE = '{"sandboxId": "x", "message": "The sandbox was not found", "code": 502}'
CLOSED = '{"sandboxId": "x", "message": "The sandbox is running but port is not open", "port": 49983, "code": 502}'
HTML = "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_http, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(_births, "LOOKS_SECONDS", (0.0, 0.2))


@pytest.fixture(autouse=True)
async def _bounded():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND_SECONDS


def starting(emulator, **options):
    return E2BMachine(config_for(emulator, **options))


# While a sandbox is made


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (400, JSON % 400, {}, MachineStartError),
        (401, JSON % 401, {}, AuthenticationError),
        (403, JSON % 403, {}, MachineStartError),
        (404, JSON % 404, {}, MachineStartError),
        (409, JSON % 409, {}, MachineStartError),
        (429, JSON % 429, {}, QuotaError),
        (429, JSON % 429, {"Retry-After": "3600"}, QuotaError),
        (500, "plain text: the service says no", {}, MachineStartError),
        (502, GONE, {}, MachineStartError),
        (503, HTML, {}, MachineStartError),
        (504, "", {}, MachineStartError),
        (200, "", {}, MachineStartError),
        (201, "[]", {}, MachineStartError),
    ],
)
async def test_a_refused_start_is_our_error_and_leaves_nothing(emulator, status, body, headers, expected):
    for when in ("before", "after") if status in (500, 502, 503, 504, 200, 201) else ("before",):
        emulator.faults.clear()
        emulator.faults.add(
            "status", path="^/sandboxes$", method="POST", status=status, body=body, headers=headers, when=when
        )
        machine = starting(emulator)
        with pytest.raises(expected) as info:
            await machine.start()
        assert info.value.provider == "e2b"
        if "says no" in body:
            assert "the service says no" in str(info.value)
        assert machine.id is None
        assert machine.state is MachineState.IDLE
        assert emulator.sandbox_ids == []
    assert sum(record.path == "/sandboxes" for record in emulator.requests) <= 2


async def test_a_rate_limit_of_a_second_is_waited_for(emulator):
    emulator.faults.add("status", path="^/sandboxes$", method="POST", status=429, headers={"Retry-After": "1"})
    machine = starting(emulator)
    await machine.start()
    await machine.stop()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_start_that_is_cut_leaves_nothing(emulator, when):
    emulator.faults.add("cut", path="^/sandboxes$", method="POST", when=when)
    with pytest.raises(MachineStartError):
        await starting(emulator).start()
    assert emulator.sandbox_ids == []
    assert sum(record.path == "/sandboxes" for record in emulator.requests) == 1


async def test_a_start_that_is_not_answered_is_bounded(emulator):
    emulator.faults.add("silent", path="^/sandboxes$", method="POST")
    with pytest.raises(MachineStartError, match="no answer"):
        await starting(emulator, request_timeout=1).start()
    assert emulator.sandbox_ids == []


async def test_a_cancelled_start_leaves_nothing(emulator):
    emulator.faults.add("delay", path="^/sandboxes$", method="POST", when="after", seconds=0.3)
    machine = starting(emulator)
    task = asyncio.ensure_future(machine.start())
    await eventually(lambda: any(record.path == "/sandboxes" for record in emulator.requests), "it was asked")
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: emulator.sandbox_ids == [], "nothing is left")


async def test_a_sandbox_in_which_nothing_runs_is_removed(emulator):
    emulator.faults.add("status", path="Start", status=500, body="no", count=None)
    with pytest.raises(MachineStartError):
        await starting(emulator).start()
    assert emulator.sandbox_ids == []


async def test_a_daemon_that_is_slow_to_come_is_waited_for(emulator):
    emulator.faults.add("status", path="Start", status=502, body=CLOSED, count=3)
    machine = starting(emulator)
    await machine.start()
    await machine.stop()


async def test_a_template_that_is_not_there_is_named(emulator):
    with pytest.raises(MachineStartError, match="no-such-template"):
        await starting(emulator, template="no-such-template").start()


async def test_a_wrong_key_is_told_and_not_shown(emulator):
    with pytest.raises(AuthenticationError) as info:
        await starting(emulator, api_key="e2b_wrong").start()
    assert "e2b_wrong" not in str(info.value) + repr(info.value.__cause__)


# While a command begins


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, JSON % 401, AuthenticationError),
        (404, JSON % 404, MachineLostError),
        (409, JSON % 409, InvalidStateError),
        (429, JSON % 429, QuotaError),
        (500, "plain text", MachineError),
        (502, GONE, MachineUnreachableError),  # though the control plane says that it runs
        (502, CLOSED, MachineUnreachableError),
        (503, HTML, MachineUnreachableError),
        (504, "", MachineUnreachableError),
    ],
)
async def test_a_refused_command_is_our_error_with_the_sandbox_and_was_not_repeated(
    emulator, machine, status, body, expected
):
    emulator.faults.add("status", path="Start", status=status, body=body)
    with pytest.raises(expected) as info:
        await sh(machine, "echo x >> ran")
    assert info.value.machine_id == machine.id
    assert machine.id in str(info.value)
    assert not await machine.exists("ran")
    assert (await sh(machine, "echo fine")).stdout == "fine\n"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_command_whose_start_is_cut_is_not_repeated_and_does_not_go_on(monkeypatch, emulator, machine, when):
    monkeypatch.setattr(_envd, "SILENCE_SECONDS", 2)
    emulator.faults.add("cut", path="Start", when=when)
    with pytest.raises(MachineUnreachableError):
        await sh(machine, "echo x >> ran; sleep 600")
    assert not await machine.exists("ran") or await machine.read_file("ran") == b"x\n"
    await eventually(lambda: _no_sleep(machine), "the command was ended")


async def _no_sleep(machine):
    return (await sh(machine, "ps axo args | grep -c '^slee[p] 600'")).stdout == "0\n"


async def test_a_command_that_is_not_answered_is_bounded(emulator):
    machine = starting(emulator, request_timeout=1)
    await machine.start()
    try:
        emulator.faults.add("silent", path="Start")
        with pytest.raises(MachineUnreachableError):
            await sh(machine, "true")
    finally:
        await machine.stop()


# While a command runs


async def test_a_command_whose_stream_is_cut_is_unreachable_and_ended(emulator, machine):
    emulator.faults.add("cut", path="Start", frames=2)
    with pytest.raises(MachineUnreachableError, match=r"cut|closed|incomplete|peer"):
        await sh(machine, "echo x >> ran; echo out; sleep 600")
    await eventually(lambda: _no_sleep(machine), "the command was ended")
    assert await machine.read_file("ran") == b"x\n"


async def test_a_silent_stream_is_given_up(monkeypatch, emulator, machine):
    monkeypatch.setattr(_envd, "SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(_envd, "PING_SECONDS", 1)
    emulator.faults.add("silent", path="Start", frames=1)
    with pytest.raises(MachineUnreachableError):
        await sh(machine, "sleep 600")
    assert (await sh(machine, "echo fine")).stdout == "fine\n"


@pytest.mark.parametrize("kind", ["no-end", "no-eos"])
async def test_a_command_is_over_by_its_own_word_whatever_its_stream_leaves_out(emulator, machine, kind):
    emulator.faults.add(kind, path="Start")
    result = await sh(machine, "echo out; echo err >&2; exit 5")
    assert (result.exit_code, result.stdout, result.stderr) == (5, "out\n", "err\n")


async def test_a_terminal_without_an_end_is_asked_for_it(emulator, machine):
    emulator.faults.add("no-end", path="Start")
    process = await machine.spawn(ExecRequest(shell="echo out; exit 6", terminal=TerminalSize()))
    assert b"".join([piece async for piece in process.stdout]) == b"out\r\n"
    assert await process.wait() == 6


async def test_an_error_at_the_end_of_a_stream_is_ours(emulator, machine):
    emulator.faults.add("eos-error", path="Start", frames=1, code="internal", message="something broke")
    with pytest.raises(MachineError, match="something broke") as info:
        await sh(machine, "sleep 600")
    assert info.value.machine_id == machine.id
    await eventually(lambda: _no_sleep(machine), "the command was ended")


async def test_events_and_fields_that_are_not_known_change_nothing(emulator, machine):
    emulator.faults.add("unknown", count=None)
    result = await sh(machine, "echo out; exit 3")
    assert (result.exit_code, result.stdout) == (3, "out\n")
    await machine.write_file("f", b"x" * 100_000)
    assert len(await machine.read_file("f")) == 100_000
    assert "f" in await machine.list_files()


async def test_a_sandbox_that_is_killed_while_commands_run_is_lost(emulator):
    machine = starting(emulator)
    await machine.start()
    name = machine.id
    commands = [asyncio.ensure_future(sh(machine, "echo started; sleep 600")) for _ in range(4)]
    await eventually(lambda: len([p for p in machine._link().processes if p.following]) == 4, "they run")
    killer = await E2BMachine.connect(name, config_for(emulator))
    await killer.stop()
    for error in await asyncio.gather(*commands, return_exceptions=True):
        assert isinstance(error, MachineLostError)
        assert name in str(error)
    for call in (sh(machine, "true"), machine.read_file("x"), machine.list_files(), machine.write_file("x", b"")):
        with pytest.raises(MachineLostError):
            await call
    with pytest.raises(MachineLostError):
        await machine.pause()
    assert not await machine.is_running()
    await machine.stop()
    assert machine.state is MachineState.STOPPED


async def test_kill_goes_on_when_the_first_attempt_is_lost(emulator, machine):
    process = await machine.spawn(ExecRequest(shell="sleep 600"))
    emulator.faults.add("status", path="Start", status=503, body=HTML, count=1)
    await process.kill()
    assert await process.wait() == 137


# Files


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, JSON % 401, AuthenticationError),
        (429, JSON % 429, QuotaError),
        (502, GONE, MachineUnreachableError),
        (503, HTML, MachineUnreachableError),
    ],
)
async def test_a_refused_file_operation_is_our_error(emulator, machine, status, body, expected):
    await machine.write_file("f", b"content")
    for path in ("/files", "Stat"):
        emulator.faults.clear()
        emulator.faults.add("status", path=path, status=status, body=body, count=None)
        with pytest.raises(expected) as info:
            await machine.read_file("f")
        assert info.value.machine_id == machine.id
    emulator.faults.clear()
    emulator.faults.add("status", path="/files", status=status, body=body, count=None)
    with pytest.raises(expected):
        await machine.write_file("f", b"x" * 100_000)
    emulator.faults.clear()
    assert await machine.read_file("f") == b"content"


async def test_a_full_disk_is_told_and_the_old_file_stays(emulator, machine):
    await machine.write_file("f", b"content")
    emulator.faults.add("status", path="/files", method="POST", status=507, body=JSON % 507)
    with pytest.raises(OSError, match="space") as info:
        await machine.write_file("f", b"x" * 100_000)
    assert info.value.errno == 28
    assert await machine.read_file("f") == b"content"


async def test_transfers_that_are_cut_are_told(emulator, machine):
    data = b"x" * 1_000_000
    await machine.write_file("f", data)
    emulator.faults.add("cut", path="/files", method="GET", nbytes=1000)
    with pytest.raises(MachineUnreachableError):
        await machine.read_file("f")
    for when in ("before", "after"):
        emulator.faults.add("cut", path="/files", method="POST", when=when)
        with pytest.raises(MachineUnreachableError):
            await machine.write_file("f", data + b"y")
        assert await machine.read_file("f") == data
    assert [name for name in await machine.list_files() if "gitmachine" in name] == []


# The end


@pytest.mark.parametrize("status", [503, 429])
async def test_a_stop_that_fails_can_be_repeated(emulator, machine, status):
    emulator.faults.add("status", method="DELETE", status=status, body=JSON % status, count=None)
    with pytest.raises(GitMachineError):
        await machine.stop()
    assert machine.id is not None
    emulator.faults.clear()
    await machine.stop()
    assert emulator.sandbox_ids == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_stop_that_is_cut_once_is_made_again(emulator, machine, when):
    emulator.faults.add("cut", method="DELETE", when=when)
    await machine.stop()
    assert emulator.sandbox_ids == []


async def test_a_resume_that_fails_can_be_repeated(emulator, machine):
    await machine.pause()
    emulator.faults.add("status", path="/connect$", status=500, body="no room")
    with pytest.raises(MachineError, match="no room"):
        await machine.resume()
    assert machine.state is MachineState.PAUSED
    await machine.resume()
    assert (await sh(machine, "echo on")).stdout == "on\n"
