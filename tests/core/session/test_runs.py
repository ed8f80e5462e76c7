"""Detached runs of a session: on record, in both classes, through pauses and stops, from process to process.

Time budget: 90 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gitmachine import (
    AsyncGitMachine,
    AsyncRun,
    CommandTimeoutError,
    ConfigError,
    GitMachine,
    InvalidStateError,
    MachineError,
    Run,
    RunState,
    StateError,
)
from gitmachine.plugins.host import PluginHost
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from support.machines import FilesMachine
from support.repos import git, show

Make = Callable[..., AsyncGitMachine]
SECONDS = 90.0
"""How long anything may take on a machine that is busy."""

LINES = 10_000
ALL = b"".join(b"line %d\n" % number for number in range(LINES))
HALF = LINES // 2
WRITE = f"""
i=0
while [ $i -lt {LINES} ]; do
  if [ $i -eq {HALF} ]; then until [ -e ../go ]; do sleep 0.05; done; fi
  echo "line $i"
  i=$((i + 1))
done
echo done >&2
exit 7
"""


async def said(run: AsyncRun, size: int) -> None:
    """Wait until a run has written so many bytes."""
    async with asyncio.timeout(SECONDS):
        while (await run.info()).stdout_bytes < size:
            await asyncio.sleep(0.05)


async def read(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(SECONDS):
        return b"".join([chunk async for chunk in stream])


# -- one process -----------------------------------------------------------------------------------------------------


async def test_a_run_is_started_read_and_waited_for(make: Make, any_machine: FilesMachine) -> None:
    async with make(any_machine, env={"A": "session"}) as gm:
        await gm.run("mkdir deep")
        run = await gm.spawn('echo "$A $B"; cat; pwd >&2; exit 3', cwd="deep", env={"B": "b"}, stdin="in\n", name="x")
        assert await run.wait(SECONDS) == 3
        assert await read(run.stdout()) == b"session b\nin\n"
        assert (await read(run.stderr())).endswith(b"/repo/deep\n")
        result = await run.output(SECONDS)
        assert (result.exit_code, result.stdout) == (3, "session b\nin\n")
        info = await run.info()
        assert (info.id, info.name, info.state, info.exit_code) == (run.id, "x", RunState.EXITED, 3)
        assert await gm.runs() == (info,)
        listed = await gm.spawn(["printf", "%s", "a b"])
        assert (await listed.output(SECONDS)).stdout == "a b"


async def test_output_is_followed_while_the_run_goes_on(make: Make) -> None:
    async with make() as gm:
        run = await gm.spawn("echo out; echo err >&2; until [ -e ../go ]; do sleep 0.05; done; echo end")
        seen: list[tuple[str, bytes]] = []
        first = asyncio.Event()

        def out(data: bytes) -> None:
            seen.append(("out", data))
            first.set()

        async def err(data: bytes) -> None:
            seen.append(("err", data))

        following = asyncio.ensure_future(run.follow(out, err))
        async with asyncio.timeout(SECONDS):
            await first.wait()
            assert (await run.info()).state is RunState.RUNNING
            assert b"".join([chunk async for chunk in run.stdout(1, follow=False)]) == b"ut\n"
            await gm.run("touch ../go")
            assert await following == 0
        assert b"".join(data for name, data in seen if name == "out") == b"out\nend\n"
        assert b"".join(data for name, data in seen if name == "err") == b"err\n"


async def test_an_error_of_a_callback_comes_through_and_the_run_goes_on(make: Make) -> None:
    def fail(_data: bytes) -> None:
        raise ZeroDivisionError("in the callback")

    async with make() as gm:
        run = await gm.spawn("echo hi; exec sleep 600")
        with pytest.raises(ZeroDivisionError):
            await run.follow(fail)
        assert (await run.info()).state is RunState.RUNNING


async def test_waiting_has_a_deadline_and_the_run_goes_on(make: Make) -> None:
    async with make() as gm:
        run = await gm.spawn("exec sleep 600")
        with pytest.raises(CommandTimeoutError, match="goes on"):
            await run.wait(0.1)
        with pytest.raises(TimeoutError):
            await run.output(0.1)
        assert (await run.info()).state is RunState.RUNNING
        await run.kill()
        assert await run.wait(SECONDS) == 137
        assert (await run.info()).state is RunState.KILLED


async def test_waiting_for_a_lost_run_is_an_error_after_its_output(make: Make, machine: FilesMachine) -> None:
    async with make() as gm:
        run = await gm.spawn("echo before; exec sleep 600")
        await said(run, 7)
        pid = Path(machine.workdir, ".gitmachine", "runs", run.id, "pid").read_text().split()[0]
        os.kill(int(pid), 9)
        chunks = run.stdout()
        assert await anext(chunks) == b"before\n"
        with pytest.raises(MachineError, match="without an exit code"):
            await anext(chunks)
        with pytest.raises(MachineError, match="without an exit code"):
            await run.wait(SECONDS)


async def test_runs_are_found_by_id_prefix_and_name(make: Make) -> None:
    async with make() as gm:
        first, second = [await gm.spawn("true", name="same") for _ in range(2)]
        assert (await gm.attach(first.id)).id == first.id
        assert (await gm.attach("same")).id == second.id
        assert (await gm.attach(first.id[:7])).id in {first.id, second.id}
        with pytest.raises(StateError, match=rf"no run 'x'.*{first.id} \(same\)"):
            await gm.attach("x")
        with pytest.raises(StateError):
            await gm.attach("")


async def test_wrong_arguments_are_refused_before_anything_starts(make: Make) -> None:
    gm = make()
    with pytest.raises(InvalidStateError, match=r"call start\(\) first"):
        await gm.spawn("true")
    async with gm:
        for wrong in ({"name": ""}, {"name": "a\nb"}, {"env": {"a.b": "1"}}, {"env": {"": "1"}}):
            with pytest.raises(ConfigError):
                await gm.spawn("true", **wrong)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            await gm.spawn("true", cwd="nowhere")
        assert await gm.runs() == ()
        run = await gm.spawn("true")
        with pytest.raises(ConfigError, match="offset"):
            await read(run.stdout(-1))


async def test_secrets_are_in_no_record_of_a_run(make: Make, machine: FilesMachine) -> None:
    async with make(env={"API_TOKEN": "sekret-value"}) as gm:
        run = await gm.spawn("echo sekret-value | wc -c", env={"OTHER_PASSWORD": "another-value"})
        assert (await run.output(SECONDS)).stdout.strip() == "13"
        assert "***" in run.command
        files = Path(machine.workdir, ".gitmachine").rglob("*")
        texts = [file.read_bytes() for file in files if file.is_file()]
        assert not [text for text in texts if b"sekret-value" in text or b"another-value" in text]
        key = gm.key
    with Journal.open(Places.default()) as journal:
        assert [entry.command for entry in await journal.commands(key)] == ["echo *** | wc -c"]


async def test_runs_are_in_no_commit_also_where_the_repository_holds_the_working_directory(
    make: Make, tmp_path: Path, remote: Path
) -> None:
    class FixedMachine(FilesMachine):
        async def start(self) -> None:
            await super().start()
            self.workdir = str(Path(self.workdir).rename(tmp_path / "fixed"))

    around = str(tmp_path / "fixed")
    async with make(FixedMachine(tmp_path), path=around) as gm:
        run = await gm.spawn("echo output; echo work > work.txt")
        assert (await run.output(SECONDS)).stdout == "output\n"
        assert not Path(around, ".gitmachine").exists()
    assert git("-C", remote, "diff", "--name-only", "main", "feature") == "work.txt"


async def test_a_run_that_was_only_begun_is_listed(make: Make) -> None:
    async with make() as gm:
        alive = {"pid": os.getpid(), "started": None}
        with Journal.open(Places.default()) as journal:
            await journal.intend(gm.key, "spawn", {"id": "00000001", "name": "n", "command": "sleep 1", **alive})
            await journal.intend(
                gm.key, "spawn", {"id": "00000002", "command": "sleep 2", "pid": None, "started": None}
            )
        infos = {info.id: info for info in await gm.runs()}
        assert infos["00000001"].state is RunState.STARTING
        assert infos["00000001"].name == "n"
        assert infos["00000002"].state is RunState.LOST
        assert infos["00000002"].command == "sleep 2"
        with pytest.raises(StateError, match="00000002"):
            await (await gm.attach("00000002")).info()


async def test_what_waits_for_a_run_waits_out_a_pause(make: Make) -> None:
    async with make() as gm:
        run = await gm.spawn("echo a; until [ -e ../go ]; do sleep 0.05; done; echo b")
        await said(run, 2)
        waiting = asyncio.ensure_future(run.output(SECONDS))
        await gm.pause()
        with pytest.raises(InvalidStateError, match=r"call resume\(\) first"):
            await gm.spawn("true")
        with pytest.raises(InvalidStateError, match=r"call resume\(\) first"):
            await gm.runs()
        done, _ = await asyncio.wait([waiting], timeout=1)
        assert not done
        await gm.resume()
        await gm.run("touch ../go")
        assert (await waiting).stdout == "a\nb\n"


async def test_stop_gives_runs_time_and_publishes_what_they_wrote(
    make: Make, any_machine: FilesMachine, remote: Path
) -> None:
    gm = make(any_machine)
    await gm.start()
    run = await gm.spawn("trap 'echo saved > saved.txt; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    await said(run, 6)
    following = asyncio.ensure_future(run.wait(SECONDS))
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:saved.txt") == "saved"
    with contextlib.suppress(InvalidStateError):  # or it saw the end
        assert await following == 0


async def test_a_session_without_runs_asks_nothing_about_them_at_stop(make: Make, machine: FilesMachine) -> None:
    gm = make()
    await gm.start()
    await gm.run("true")
    await gm.stop()
    assert not [argv for argv in machine.spawned if "all" in argv[-2:-1]]


# -- both classes ----------------------------------------------------------------------------------------------------


def test_both_classes_of_runs_are_alike() -> None:
    def members(cls: type) -> dict[str, object]:
        return {name: value for name, value in vars(cls).items() if not name.startswith("_")}

    def function(member: object) -> Callable[..., object]:
        return member.fget if isinstance(member, property) else member  # type: ignore[return-value]

    asynchronous, blocking = members(AsyncRun), members(Run)
    assert list(asynchronous) == list(blocking)
    for name, member in asynchronous.items():
        one, other = function(member), function(blocking[name])
        assert inspect.getdoc(one) == inspect.getdoc(other), name
        shapes = [[(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (one, other)]
        assert shapes[0] == shapes[1], name


def test_blocking_code_starts_reads_and_waits(machine: FilesMachine, remote: Path) -> None:
    keywords = {"repository": f"file://{remote}", "session": "feature", "plugins": PluginHost(entry_points=())}
    with GitMachine(machine, **keywords) as gm:
        run = gm.spawn("seq 1 1000; echo err >&2; exit 2", name="numbers")
        text = "".join(f"{number}\n" for number in range(1, 1001)).encode()
        assert b"".join(run.stdout()) == text
        assert b"".join(run.stderr(1)) == b"rr\n"
        assert b"".join(run.stdout(5, follow=False)) == text[5:]
        assert run.wait(SECONDS) == 2
        again = gm.attach("numbers")
        assert (again.id, again.name, again.command) == (run.id, "numbers", "seq 1 1000; echo err >&2; exit 2")
        assert isinstance(again, Run)
        pieces: list[bytes] = []
        assert again.follow(pieces.append, stdout_offset=10) == 2
        assert b"".join(pieces) == text[10:]
        assert again.output(SECONDS).stdout_bytes == text
        assert again.info().exit_code == 2
        sleeper = gm.spawn(["sleep", "600"])
        sleeper.kill()
        assert [info.state for info in gm.runs()] == [RunState.EXITED, RunState.KILLED]


# -- from process to process -----------------------------------------------------------------------------------------

PROLOGUE = """
import asyncio, os, sys
from gitmachine import AsyncGitMachine
async def main():
"""


def python(body: str, *args: str, **keywords: object) -> subprocess.Popen[str]:
    """Start a process of its own with the body of an async function; `a` is the session `name`, once connected."""
    script = PROLOGUE + textwrap.indent(textwrap.dedent(body), "    ") + "\nasyncio.run(main())\n"
    return subprocess.Popen([sys.executable, "-c", script, *args], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    return out


def start_and_die(remote: Path, command: str) -> str:
    """Have a process start the machine ``a`` and a run, and kill it at once; return the run's id."""
    process = python(
        """
        gm = AsyncGitMachine("local", repository=sys.argv[1], session="feature", name="a")
        await gm.start()
        run = await gm.spawn(sys.argv[2], name="writer")
        print(run.id, flush=True)
        await asyncio.sleep(600)
        """,
        f"file://{remote}",
        command,
    )
    try:
        assert process.stdout is not None
        return process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


CONNECT = 'gm = await AsyncGitMachine.connect("a")\n'


@pytest.fixture
async def cleanup() -> AsyncIterator[None]:
    """Stop the machine ``a``, whatever happened."""
    yield
    with contextlib.suppress(StateError):
        gm = await AsyncGitMachine.connect("a")
        await gm.stop(force=True)


@pytest.mark.timeout(400)
@pytest.mark.requires("sandbox")
@pytest.mark.usefixtures("cleanup")
async def test_all_of_a_run_is_read_once_by_others_after_its_client_died_and_its_machine_was_paused(
    remote: Path,
) -> None:
    run_id = start_and_die(remote, WRITE)
    reader = await AsyncGitMachine.connect("a")
    run = await reader.attach("writer")
    assert run.id == run_id
    first = len(b"".join(b"line %d\n" % number for number in range(HALF)))
    await said(run, first)
    # One reader is at it already when another process pauses the machine.
    following = asyncio.ensure_future(read(run.stdout(3)))

    await asyncio.to_thread(finish, python(CONNECT + "await gm.pause()\nawait gm.close()"))
    with pytest.raises(InvalidStateError, match="paused"):
        await reader.runs()
    await asyncio.to_thread(
        finish, python(CONNECT + "await gm.resume()\nawait gm.run('touch ../go')\nawait gm.close()")
    )

    assert await following == ALL[3:]
    offsets = (0, 1, first - 1, first, len(ALL) - 1, len(ALL), len(ALL) + 10)
    for offset in offsets:
        assert await read(run.stdout(offset)) == ALL[offset:]
    assert await read(run.stderr()) == b"done\n"
    assert await run.wait(SECONDS) == 7
    # And once more by a process that knows nothing but the names.
    out = await asyncio.to_thread(
        finish,
        python(
            CONNECT
            + "run = await gm.attach('writer')\n"
            + "code = await run.follow(lambda data: os.write(1, data) and None, stdout_offset=7)\n"
            + "await gm.close()\n"
            + "print('exit', code)"
        ),
    )
    assert out == ALL[7:].decode() + "exit 7\n"
    await reader.close()


@pytest.mark.timeout(400)
@pytest.mark.requires("sandbox")
@pytest.mark.usefixtures("cleanup")
async def test_fire_and_forget_then_reconnect_and_publish(remote: Path) -> None:
    run_id = start_and_die(remote, "echo work > work.txt; until [ -e ../go ]; do sleep 0.05; done; echo done")
    deadline = time.monotonic() + SECONDS
    gm = await AsyncGitMachine.connect("a")
    (info,) = await gm.runs()
    assert (info.id, info.state) == (run_id, RunState.RUNNING)
    assert time.monotonic() < deadline
    await gm.run("touch ../go")
    assert await (await gm.attach(run_id)).wait(SECONDS) == 0
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:work.txt") == "work"
