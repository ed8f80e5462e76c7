"""The pool: what goes where, timeouts, cancellations, losses, many at once, and what it costs in memory.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import CommandTimeoutError, MachineError, MachineFileNotFoundError, MachineLostError
from gitmachine.execution import ExecRequest, TerminalSize
from gitmachine.machines.channel import ChannelLostError
from gitmachine.machines.channel.slot import TURNS

pytestmark = pytest.mark.requires("linux", "dash", "bash", "busybox", "setpriv", "setsid")

UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"
BEAT = "while :; do echo x >> beat; sleep 0.02; done"


@pytest.fixture(params=["dash", "busybox"])
def rig(request, make_rig):
    return make_rig(request.param)


def exists(rig, name: str):
    return lambda: Path(rig.home, name).exists()


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


async def endless():
    yield b"x"


# What the channel serves


async def test_what_only_a_process_of_its_own_can_have_goes_the_plain_way(dash):
    plain = [
        ExecRequest(argv=["cat"], user="nobody"),
        ExecRequest(argv=["cat"], terminal=TerminalSize()),
        ExecRequest(argv=["cat"], open_stdin=True),
        ExecRequest(argv=["cat"], stdin=endless()),
        ExecRequest(shell="#" * 200_000, stdin=b"x"),
    ]
    assert [dash.pool.serves(request) for request in plain] == [False] * len(plain)
    served = [
        ExecRequest(argv=["cat"]),
        ExecRequest(argv=["cat"], stdin=b"x" * 1_000_000),
        ExecRequest(shell="#" * 200_000),
        ExecRequest(shell="x", env={"ODD.NAME": "x"}, on_stdout=print, timeout=3),
    ]
    assert [dash.pool.serves(request) for request in served] == [True] * len(served)


async def test_input_that_is_a_stream_goes_the_plain_way_and_arrives(dash):
    result = await dash.run("cat", stdin=endless())
    assert result.stdout == "x"
    assert len(dash.plain) == 1
    assert dash.plain[0].open_stdin


async def test_a_live_input_goes_the_plain_way(dash):
    process = await dash.pool.spawn(ExecRequest(argv=["cat"], open_stdin=True), cwd=dash.home, env={})
    await process.stdin.write(b"hello")
    await process.stdin.close()
    assert b"".join([piece async for piece in process.stdout]) == b"hello"
    assert await process.wait() == 0


async def test_a_spawned_command_ignores_the_input_of_its_request(dash):
    process = await dash.pool.spawn(ExecRequest(argv=["cat"], stdin=b"x" * 99), cwd=dash.home, env={})
    assert (await dash.finish(process)).stdout == ""
    assert dash.plain == []


async def test_a_shell_without_what_is_needed_is_not_used(make_rig, tmp_path):
    rig = make_rig("dash")
    rig.env["PATH"] = str(tmp_path)  # no setsid, no env
    rig.shell = ("/bin/dash",)
    assert not await rig.pool.warm()
    assert "setsid" in rig.pool.problem
    assert not rig.pool.serves(ExecRequest(argv=["true"]))
    assert (await rig.sh("echo plain")).stdout == "plain\n"
    assert len(rig.plain) == 1


async def test_a_program_that_is_no_shell_is_given_up_after_some_attempts(make_rig):
    rig = make_rig("dash", hello_seconds=0.3)
    rig.shell = ("cat",)
    for _ in range(3):
        rig.slots._retry_at = 0.0
        assert (await rig.sh("echo plain")).stdout == "plain\n"
    assert rig.pool.problem
    rig.shell = ("false",)
    assert (await rig.sh("echo plain")).stdout == "plain\n"
    assert len(rig.duplexes) == 3


async def test_a_banner_before_the_answer_is_ignored(make_rig):
    rig = make_rig("dash")
    rig.shell = ("dash", "-c", "echo Welcome; echo Warning >&2; exec dash")
    result = await rig.sh("echo mine; echo mine >&2")
    assert (result.stdout, result.stderr) == ("mine\n", "mine\n")


async def test_a_connection_that_fails_leaves_the_plain_way(dash):
    dash.refuse = MachineError("no more sessions")
    assert (await dash.sh("echo plain")).stdout == "plain\n"
    assert dash.pool.problem == ""
    dash.refuse = None
    dash.slots._retry_at = 0.0
    assert (await dash.sh("echo warm")).stdout == "warm\n"
    assert len(dash.plain) == 1


async def test_a_server_that_allows_few_sessions_is_not_asked_for_more_at_once(dash):
    await dash.pool.warm()
    dash.refuse = MachineError("no more sessions")
    first = asyncio.ensure_future(dash.sh(UNTIL_GO))
    await asyncio.sleep(0)
    results = await asyncio.gather(*(dash.sh(f"echo {number}") for number in range(5)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(5)]
    assert 1 <= len(dash.plain) <= 5
    Path(dash.home, "go").touch()
    await first


# Many


async def test_commands_that_wait_for_each_other_meet(rig):
    count = 9
    others = "; ".join(f"until [ -e here-{number} ]; do sleep 0.05; done" for number in range(count))
    meetings = (rig.sh(f"touch here-{number}; {others}; echo met") for number in range(count))
    results = await asyncio.gather(*meetings)
    assert [result.stdout for result in results] == ["met\n"] * count


async def test_fifty_at_once_each_get_their_own_output_and_more_than_the_limit_can_wait_for_each_other(make_rig):
    rig = make_rig("dash", limit=4)
    others = "until [ $(ls | wc -l) -ge 50 ]; do sleep 0.2; done"
    results = await asyncio.gather(*(rig.sh(f"touch {number}; {others}; echo {number}") for number in range(50)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(50)]
    assert len(rig.duplexes) == 4
    assert len(rig.plain) == 46


async def test_a_burst_of_short_commands_shares_a_few_shells(dash):
    results = await asyncio.gather(*(dash.sh(f"echo {number}") for number in range(100)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]
    assert len(dash.duplexes) <= 16
    assert len(dash.plain) < 50


async def test_commands_with_pauses_between_them_need_one_shell(rig, monkeypatch):
    monkeypatch.setattr("gitmachine.machines.channel.keeper.PREPARED_SECONDS", 0.0)
    for number in range(30):
        assert (await rig.sh(f"echo {number}")).stdout == f"{number}\n"
    assert len(rig.duplexes) == 1


async def test_commands_that_follow_at_once_have_a_few_shells_that_take_turns(dash, monkeypatch):
    monkeypatch.setattr("gitmachine.machines.channel.keeper.PREPARED_SECONDS", 60.0)

    async def three() -> bool:
        await dash.sh("true")
        return len(dash.slots._all) == 3

    await dash.until_async(three, "three shells are open")
    for number in range(60):
        assert (await dash.sh(f"echo {number}")).stdout == f"{number}\n"
    assert len(dash.duplexes) == 3
    assert dash.plain == []


async def test_one_shell_is_prepared_for_more_commands_again_and_again(make_rig):
    rig = make_rig("dash", limit=1)
    for number in range(3 * TURNS + 2):
        assert (await rig.sh(f"echo {number}; exit {number}")).exit_code == number
    assert len(rig.duplexes) == 1


# The process that waits


def waiting(rig) -> list[int]:
    """Return the processes that wait in the shells for a command."""
    shells = {duplex.pid for duplex in rig.duplexes}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) in shells and b"-s" in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


async def test_a_process_waits_for_the_next_command_and_carries_no_mark(rig):
    await rig.sh("true")
    await rig.until(lambda: waiting(rig), "a process waits")
    assert rig.survivors() == []


async def test_a_shell_whose_waiting_process_was_killed_is_replaced(rig):
    await rig.sh("true")
    await rig.until(lambda: waiting(rig), "a process waits")
    for pid in waiting(rig):
        os.kill(pid, signal.SIGKILL)
    await rig.until(lambda: not rig.slots._all, "the shell is given up")
    assert (await rig.sh("echo on")).stdout == "on\n"
    assert len(rig.duplexes) == 2


@pytest.mark.parametrize("name", ["dash", "bash", "busybox", "nobody-dash"])
async def test_a_command_for_a_process_that_was_just_killed_runs_once_or_not_at_all(make_rig, name):
    # One shell at most: in a second one, which haste opens, the process would be killed before a later command.
    rig = make_rig(name, limit=1)
    for number in range(10):
        await rig.sh("true")
        await rig.until(lambda: waiting(rig), "a process waits")
        for pid in waiting(rig):
            os.kill(pid, signal.SIGKILL)
        result = await rig.pool.execute(
            ExecRequest(shell=f"echo {number} >> ran; exit 3", timeout=60), cwd=rig.home, env={}
        )
        assert result.exit_code in {3, 137}
        # Whatever stands in the stream for the dead one is nobody else's.
        assert (await rig.sh("echo on")).stdout == "on\n"
        ran = Path(rig.home, "ran").read_text().split() if Path(rig.home, "ran").exists() else []
        assert ran.count(str(number)) == (result.exit_code == 3)


async def test_the_end_of_the_shell_is_the_end_of_the_process_that_waits(rig):
    await rig.sh("true")
    await rig.until(lambda: waiting(rig), "a process waits")
    await rig.pool.close()
    await rig.until(lambda: not waiting(rig), "the process that waited ends")


# Live processes


async def test_output_of_a_live_process_arrives_while_it_runs(rig):
    process = await rig.spawn(f"echo ready; echo err >&2; {UNTIL_GO}; echo done; exit 3")
    assert await anext(process.stdout) == b"ready\n"
    assert await anext(process.stderr) == b"err\n"
    Path(rig.home, "go").touch()
    assert b"".join([piece async for piece in process.stdout]) == b"done\n"
    assert await process.wait() == 3
    assert await process.wait() == 3
    with pytest.raises(BrokenPipeError):
        await process.stdin.write(b"x")
    await process.stdin.close()


async def test_callbacks_are_called_as_output_arrives(dash):
    out: list[str] = []
    err: list[str] = []
    result = await dash.sh("echo a; echo b >&2; cat", stdin=b"c", on_stdout=out.append, on_stderr=err.append)
    assert ("".join(out), "".join(err)) == ("a\nc", "b\n")
    assert (result.stdout, result.stderr) == ("a\nc", "b\n")
    assert dash.plain == []


async def test_processes_have_different_ids(dash):
    processes = [await dash.spawn("true") for _ in range(3)]
    assert len({process.id for process in processes}) == 3
    for process in processes:
        await dash.finish(process)


async def test_spawning_in_a_missing_directory_is_refused_at_once(rig):
    with pytest.raises(MachineFileNotFoundError):
        await rig.pool.spawn(ExecRequest(argv=["true"]), cwd="/no/such", env={})


async def test_output_that_nobody_reads_yet_is_held_back_and_complete(dash):
    process = await dash.spawn("head -c 30000000 /dev/zero; echo end >&2")
    await dash.until(lambda: process.job.outputs.held_back, "the stream is held back")
    assert process.job.outputs.waiting_bytes < 4 << 20
    other = await dash.sh("echo other")
    assert other.stdout == "other\n"
    result = await dash.finish(process)
    assert len(result.stdout_bytes) == 10 << 20
    assert result.stderr == "end\n"
    await dash.until(lambda: not process.job.outputs.held_back, "the stream flows again")


async def test_killing_a_process_whose_output_nobody_reads(rig):
    process = await rig.spawn("head -c 30000000 /dev/zero; sleep 600")
    await rig.until(lambda: process.job.outputs.held_back, "the stream is held back")
    await process.kill()
    assert await process.wait() == 137
    await process.kill()
    assert rig.survivors() == []


# Timeouts and cancellations

HIDING = {
    "children": f"( sh -c '{BEAT}' & wait ) & wait",
    "setsid": f"setsid sh -c '{BEAT}' & wait; sleep 600",
    "an orphan without environment, session, pipes": (
        f"""( env -i PATH="$PATH" setsid sh -c '{BEAT}' >/dev/null 2>&1 </dev/null & ); sleep 600"""
    ),
    "a daemon": f"""( setsid sh -c 'setsid sh -c "{BEAT}" & exit' & ) ; sleep 600""",
    "stubborn": f"trap '' TERM HUP INT QUIT; {BEAT}",
    "spawner": f"{BEAT} & while :; do ( setsid sleep 600 & ) ; sleep 0.02; done",
}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("how", HIDING)
async def test_a_timeout_ends_the_whole_tree(make_rig, how, shell):
    rig = make_rig(shell)
    for seconds in (0.4, 2, 8):  # a loaded machine may not have begun after the first
        with pytest.raises(CommandTimeoutError) as caught:
            await rig.sh(f"echo out; echo err >&2; {HIDING[how]}", timeout=seconds)
        result = caught.value.result
        if result.stderr:
            break
    assert (result.stdout, result.stderr, result.timed_out, result.exit_code) == ("out\n", "err\n", True, 137)
    await rig.until(lambda: not rig.survivors(), "nothing is left")
    assert (await rig.sh("echo usable")).stdout == "usable\n"
    assert rig.plain == []


async def test_a_cancelled_command_is_ended_and_the_others_are_not(rig):
    other = asyncio.ensure_future(rig.sh(f"{UNTIL_GO}; echo done"))
    task = asyncio.ensure_future(rig.sh(f"setsid sh -c '{BEAT}' & {BEAT}"))
    await rig.until(exists(rig, "beat"), "the command runs")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await rig.until(lambda: not any("beat" in line for line in rig.survivors()), "it is gone")
    Path(rig.home, "go").touch()
    assert (await other).stdout == "done\n"


async def test_a_command_cancelled_before_it_has_a_shell_never_runs(dash):
    task = asyncio.ensure_future(dash.sh("touch ran"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (await dash.sh("ls")).stdout == ""


async def test_a_timeout_while_the_input_is_being_sent_runs_none_of_it(rig):
    data = b"touch pwned\n" * 500_000
    with pytest.raises(CommandTimeoutError):
        await rig.sh("head -c 100000 >/dev/null; sleep 600", stdin=data, timeout=1)
    await rig.until(lambda: not rig.survivors(), "nothing is left")
    assert not exists(rig, "pwned")()
    assert (await rig.sh("echo usable")).stdout == "usable\n"


async def test_a_feeder_that_is_killed_takes_the_shell_along_and_the_input_is_never_run(dash):
    task = asyncio.ensure_future(dash.sh("touch on; sleep 600", stdin=b"touch pwned\n" * 500_000))
    await dash.until(exists(dash, "on"), "the command runs")
    feeders = [pid for pid in descendants(dash.pool.shell.pid) if Path(f"/proc/{pid}/comm").read_text() == "head\n"]
    assert len(feeders) == 1
    os.kill(feeders[0], signal.SIGKILL)
    with pytest.raises(ChannelLostError):
        await task
    assert not exists(dash, "pwned")()
    await dash.until(lambda: not dash.survivors(), "the command is ended, too")


async def test_a_timeout_counts_on_the_machines_clock(dash):
    clock = PausableClock()
    token = command_clock.set(clock)
    try:
        task = asyncio.ensure_future(dash.sh(f"touch on; {UNTIL_GO}; echo done", timeout=2))
    finally:
        command_clock.reset(token)
    await dash.until(exists(dash, "on"), "the command runs")
    clock.pause()
    await asyncio.wait([task], timeout=2.2)
    assert not task.done()
    Path(dash.home, "go").touch()
    clock.resume()
    assert (await task).stdout == "done\n"


async def test_a_kill_needs_no_free_shell(make_rig):
    rig = make_rig("dash", limit=1)
    with pytest.raises(CommandTimeoutError):
        await rig.sh("sleep 600", timeout=0.5)
    assert rig.survivors() == []
    assert rig.plain == []


async def test_a_shell_whose_command_was_killed_is_not_used_again(dash):
    with contextlib.suppress(CommandTimeoutError):
        await dash.sh("sleep 600", timeout=0.5)
    condemned = dash.duplexes[0]
    await dash.until(lambda: condemned._transport.get_returncode() is not None, "the shell is closed")
    assert (await dash.sh("echo on")).stdout == "on\n"


# Marks for the plain way, and everything at once


async def test_a_plain_command_can_be_marked_and_killed(rig):
    await rig.pool.warm()
    mark = rig.pool.new_mark()
    argv = rig.pool.marked(["sh", "-c", f"setsid sh -c '{BEAT}' & {BEAT}"], mark)
    child = await asyncio.create_subprocess_exec(*argv, cwd=rig.home, env=rig.env, start_new_session=True)
    try:
        await rig.until(exists(rig, "beat"), "the command runs")
        await rig.until(lambda: len(rig.survivors(mark)) >= 2, "both run")
        await rig.pool.kill(mark)
        await rig.until(lambda: not rig.survivors(mark), "it is gone")
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_everything_can_be_killed_and_the_shells_stay(rig):
    running = asyncio.ensure_future(rig.sh(f"touch on; {UNTIL_GO}"))
    await rig.sh("setsid sleep 600 >/dev/null 2>&1 & sleep 600 & :")
    await rig.until(exists(rig, "on"), "the command runs")
    await rig.pool.kill_everything()
    assert (await running).exit_code == 137
    await rig.until(lambda: not rig.survivors(), "nothing is left")
    assert all(duplex._transport.get_returncode() is None for duplex in rig.duplexes)


# Losses


async def test_a_lost_stream_is_judged_by_the_provider(make_rig):
    seen = []

    async def judge(error):
        seen.append(error)
        return MachineError("somebody killed the shell")

    rig = make_rig("dash", judge=judge)
    task = asyncio.ensure_future(rig.sh(f"echo x >> runs; {UNTIL_GO}"))
    await rig.until(exists(rig, "runs"), "the command runs")
    rig.duplexes[0]._transport.kill()
    with pytest.raises(MachineError, match="somebody killed the shell") as caught:
        await task
    assert isinstance(caught.value.__cause__, ChannelLostError)
    assert seen == [caught.value.__cause__]
    Path(rig.home, "go").touch()
    await rig.sh("true")
    assert Path(rig.home, "runs").read_text() == "x\n"


async def test_a_live_process_of_a_lost_shell_ends(rig):
    process = await rig.spawn(f"echo out; {UNTIL_GO}")
    assert await anext(process.stdout) == b"out\n"
    rig.duplexes[0]._transport.kill()
    with pytest.raises(MachineLostError):
        await process.wait()
    assert [piece async for piece in process.stdout] == []
    assert [piece async for piece in process.stderr] == []


async def test_a_shell_that_dies_while_nobody_uses_it_is_replaced(dash):
    await dash.pool.warm()
    dash.duplexes[0]._transport.kill()
    await dash.until(lambda: not dash.slots._all, "its end is noticed")
    assert (await dash.sh("echo on")).stdout == "on\n"
    assert dash.plain == []


async def test_closing_tells_whoever_waits_and_leaves_no_shell(dash):
    task = asyncio.ensure_future(dash.sh(f"touch on; {UNTIL_GO}"))
    await dash.until(exists(dash, "on"), "the command runs")
    await dash.pool.close()
    with pytest.raises(ChannelLostError):
        await task
    Path(dash.home, "go").touch()
    assert not await dash.pool.warm()
    assert (await dash.sh("echo plain")).stdout == "plain\n"
    assert len(dash.plain) == 1


async def test_a_paused_pool_opens_nothing_and_sends_nobody_away(make_rig):
    rig = make_rig("dash", limit=1)
    first = asyncio.ensure_future(rig.sh(f"touch on; {UNTIL_GO}"))
    await rig.until(exists(rig, "on"), "the command runs")
    rig.pool.pause()
    second = asyncio.ensure_future(rig.sh("echo second"))
    await asyncio.wait([second], timeout=0.4)
    assert not second.done()
    Path(rig.home, "go").touch()
    rig.pool.resume()
    assert (await second).stdout == "second\n"
    await first
    assert rig.plain == []


async def test_more_servers_than_shells_may_be_kept_cost_the_oldest_its_output(make_rig):
    rig = make_rig("dash", tainted_limit=2)
    for _ in range(4):
        await rig.sh("sleep 600 & :")
    await rig.until(lambda: len(rig.slots._tainted) == 2, "the oldest are closed")
    assert (await rig.sh("echo on")).stdout == "on\n"


async def test_after_a_pause_shells_that_are_being_opened_can_be_waited_for_and_no_more_are(dash):
    running = [asyncio.ensure_future(dash.sh("echo on")) for _ in range(3)]
    await dash.until(lambda: dash.slots._openers, "shells are being opened")
    dash.pool.pause()
    await dash.pool.opened()
    assert not dash.slots._openers
    opened = len(dash.duplexes)
    running += [asyncio.ensure_future(dash.sh("sleep 0.1; echo on")) for _ in range(4)]
    await dash.pool.opened()
    assert len(dash.duplexes) == opened
    dash.pool.resume()
    assert [(await work).stdout for work in running] == ["on\n"] * 7
