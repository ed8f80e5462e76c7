"""Detached runs over a machine that has nothing but `execute`: started, read, ended, found again.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import ConfigError, MachineError, MachineFileNotFoundError, StateError
from gitmachine.execution import ExecRequest
from gitmachine.machines.runs import Piece, Runs, new_run_id, scripts
from gitmachine.outcomes import RunInfo, RunState
from support.machines import FilesMachine

SECONDS = 60.0
"""How long anything may take on a machine that is busy."""


@attrs.frozen
class Place:
    """A machine and the client of its runs."""

    machine: FilesMachine
    runs: Runs

    @property
    def directory(self) -> Path:
        return Path(self.machine.workdir, ".gitmachine", "runs")

    async def start(self, *argv: str, **fields: object) -> str:
        """Start a command (one word: a script) and return the run's id."""
        command = {"shell": argv[0]} if len(argv) == 1 else {"argv": argv}
        info = RunInfo(id=new_run_id(), name=None, command=argv[0], started=datetime.now(UTC), state=RunState.RUNNING)
        await self.runs.start(ExecRequest(**command, **fields), info)
        return info.id

    async def ended(self, run_id: str) -> Piece:
        """Wait for a run's end; return it with all its output."""
        async with asyncio.timeout(SECONDS):
            while not (await self.runs.look(run_id, wait=True)).ended:
                pass
        return await self.runs.look(run_id, stdout=0, stderr=0)

    async def says(self, run_id: str, text: bytes) -> None:
        """Wait until a run has written something."""
        async with asyncio.timeout(SECONDS):
            while text not in (await self.runs.look(run_id, stdout=0)).stdout:
                await asyncio.sleep(0.02)

    def pids(self, run_id: str) -> list[int]:
        """Return the pids of a run's supervisor and its two cats."""
        words = (self.directory / run_id / "pid").read_text().split()
        return [int(words[0]), int(words[2]), int(words[3])]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    machine = FilesMachine(tmp_path)
    await machine.start()
    made = Place(machine, Runs(machine.execute, f"{machine.workdir}/.gitmachine/runs"))
    yield made
    await made.runs.end_all(0)
    await machine.stop()


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


async def gone(pid: int) -> None:
    deadline = time.monotonic() + SECONDS
    while is_alive(pid):
        assert time.monotonic() < deadline, f"{pid} lives on"
        await asyncio.sleep(0.02)


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("exit 0",), 0),
        (("exit 255",), 255),
        (("kill -9 $$",), 128 + signal.SIGKILL),
        (("kill -TERM $$",), 128 + signal.SIGTERM),
        (("no-such-program", "x"), 127),
        (("exit", "3"), 127),
    ],
)
async def test_a_run_ends_with_the_exit_code_of_its_command(place: Place, command: tuple[str, ...], code: int) -> None:
    piece = await place.ended(await place.start(*command))
    assert (piece.state, piece.exit_code) == (RunState.EXITED, code)
    assert piece.finished is not None
    assert not piece.truncated


async def test_a_missing_working_directory_is_an_error_and_nothing_is_started(place: Place) -> None:
    with pytest.raises(MachineFileNotFoundError, match="nowhere"):
        await place.start("touch started", cwd=f"{place.machine.workdir}/nowhere")
    assert await place.runs.list() == ()


async def test_a_run_whose_supervisor_was_killed_is_lost_and_its_output_can_still_be_read(place: Place) -> None:
    run_id = await place.start("echo before; exec sleep 600")
    await place.says(run_id, b"before\n")
    os.kill(place.pids(run_id)[0], signal.SIGKILL)
    piece = await place.ended(run_id)
    assert (piece.state, piece.exit_code, piece.stdout) == (RunState.LOST, None, b"before\n")


async def test_a_start_that_was_broken_off_is_lost(place: Place) -> None:
    half = place.directory / "0123abcd"
    half.mkdir(parents=True)
    (half / "starter").write_text("999999999 1\n")
    (info,) = await place.runs.list()
    assert (info.id, info.state, info.command) == ("0123abcd", RunState.LOST, "")


async def test_a_child_that_is_left_behind_holds_up_no_end_and_adds_to_no_output(place: Place) -> None:
    go = f"{place.machine.workdir}/go"
    run_id = await place.start(f"(until [ -e {go} ]; do sleep 0.05; done; echo late; touch {go}ne) & echo early")
    assert (await place.ended(run_id)).stdout == b"early\n"
    Path(go).touch()
    deadline = time.monotonic() + SECONDS
    while not Path(f"{go}ne").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (await place.runs.look(run_id, stdout=0)).stdout == b"early\n"
    assert (await place.runs.look(run_id)).stdout_bytes == 6


# -- what it is given ------------------------------------------------------------------------------------------------


async def test_a_command_gets_its_arguments_input_directory_and_variables_as_they_are(place: Place) -> None:
    # Names that the scripts use themselves, values that a shell would read.
    env = {"dir": "D", "state": "$(id)", "code": "a\nb", "PATH": os.environ["PATH"], "fields": "'\"`", "X": "\udce9"}
    where = Path(place.machine.workdir, "a b")
    where.mkdir()
    script = 'printf "%s|" "$dir" "$state" "$code" "$fields" "$X" "$PATH" "$PWD" "$@"; umask; cat'
    run_id = await place.start("sh", "-c", script, "sh", "-n", "*", "", cwd=str(where), env=env, stdin=b"\x00in\xff")
    expected = ["D", "$(id)", "a\nb", "'\"`", "\udce9", os.environ["PATH"], str(where), "-n", "*", ""]
    text = "".join(f"{item}|" for item in expected)
    mask = os.umask(0o022)
    os.umask(mask)
    piece = await place.ended(run_id)
    assert piece.stdout == os.fsencode(text) + b"%04o\n" % mask + b"\x00in\xff"


async def test_a_command_has_an_empty_input_and_the_signals_of_any_other_command(place: Place) -> None:
    script = "cat; grep SigIgn /proc/self/status"
    usual = await place.machine.execute(ExecRequest(shell=script))
    assert (await place.ended(await place.start(script))).stdout == usual.stdout_bytes


async def test_a_variable_that_no_shell_passes_on_is_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"a\.b"):
        await place.start("true", env={"a.b": "1"})


async def test_what_a_command_writes_to_dev_stderr_by_name_overwrites_nothing(place: Place) -> None:
    piece = await place.ended(await place.start("echo first >&2; echo second >/dev/stderr; echo third >&2"))
    assert piece.stderr == b"first\nsecond\nthird\n"


async def test_the_files_of_a_run_are_private_and_hold_neither_its_input_nor_its_variables(place: Place) -> None:
    run_id = await place.start("cat >/dev/null", stdin=b"input-secret", env={"API_TOKEN": "variable-secret"})
    await place.ended(run_id)
    assert place.directory.stat().st_mode & 0o777 == 0o700
    for file in (place.directory / run_id).iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"secret" not in file.read_bytes()


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_output_is_read_exactly_once_in_pieces_of_any_size_from_any_offset(place: Place) -> None:
    script = 'i=0; while [ $i -lt 300 ]; do printf "%s\\000\\377\\n" $i; echo e$i >&2; i=$((i + 1)); done'
    piece = await place.ended(await place.start(script))
    whole = b"".join(b"%d\x00\xff\n" % i for i in range(300))
    assert piece.stdout == whole
    assert piece.stderr == b"".join(b"e%d\n" % i for i in range(300))
    run_id = (await place.runs.list())[0].id
    for size, offset in ((1000, 0), (7, len(whole) - 30), (4096, 17), (1, len(whole) - 3), (10, len(whole) + 5)):
        read = b""
        while chunk := (await place.runs.look(run_id, stdout=offset + len(read), max_bytes=size)).stdout:
            assert len(chunk) <= size
            read += chunk
        assert read == whole[offset:]


async def test_a_look_waits_for_output_that_comes_and_for_the_end(place: Place) -> None:
    run_id = await place.start("read line; echo $line; sleep 0.2; echo more", stdin=b"hello\n")
    read, offset = b"", 0
    async with asyncio.timeout(SECONDS):
        while True:
            piece = await place.runs.look(run_id, stdout=offset, wait=True)
            read += piece.stdout
            offset += len(piece.stdout)
            if piece.ended and offset == piece.stdout_bytes:
                break
    assert read == b"hello\nmore\n"


async def test_runs_are_listed_the_oldest_first_with_what_they_are(place: Place) -> None:
    ids = [await place.start(f"echo {number}; exit {number}") for number in range(3)]
    for run_id in ids:
        await place.ended(run_id)
    infos = await place.runs.list()
    assert [info.id for info in infos] == ids
    assert [info.exit_code for info in infos] == [0, 1, 2]
    assert [info.stdout_bytes for info in infos] == [2, 2, 2]
    assert infos[2].command == "echo 2; exit 2"
    assert all(info.ended and info.as_dict()["state"] == "exited" for info in infos)


async def test_a_run_that_does_not_exist_is_named(place: Place) -> None:
    with pytest.raises(StateError, match="00000000"):
        await place.runs.look("00000000")


@pytest.mark.parametrize(
    "told", ["", "[]", "null", '{"command": 5, "started": "x"}', "[" * 50_000, '{"name": "a\x1b"}']
)
async def test_what_a_machine_tells_of_a_run_may_be_anything(place: Place, told: str) -> None:
    run_id = await place.start("true")
    (place.directory / run_id / "info").write_text(f"{told}\n")
    await place.ended(run_id)
    (info,) = await place.runs.list()
    assert (info.id, info.state) == (run_id, RunState.EXITED)


async def test_a_machine_that_tells_nonsense_of_a_run_is_an_error(place: Place) -> None:
    run_id = await place.start("true")
    await place.ended(run_id)
    (place.directory / run_id / "exit").write_text("many 1 2 3 4\n")
    with pytest.raises(MachineError, match=run_id):
        await place.runs.look(run_id)


# -- ending ----------------------------------------------------------------------------------------------------------

FAMILY = """
setsid sh -c 'echo $$ >a; exec sleep 600' &
env -i PATH="$PATH" setsid sh -c 'echo $$ >b; exec sleep 600' &
(setsid sh -c 'trap "" TERM; echo $$ >c; while :; do sleep 1; done' &)
until [ -s a ] && [ -s b ] && [ -s c ]; do sleep 0.02; done
echo ready
wait
"""


async def test_kill_ends_the_whole_tree_also_what_left_the_session(place: Place) -> None:
    bystander = await place.start("echo here; exec sleep 600")
    run_id = await place.start(FAMILY)
    await place.says(run_id, b"ready")
    children = [int(Path(place.machine.workdir, name).read_text()) for name in "abc"]
    await place.runs.kill(run_id)
    piece = await place.ended(run_id)
    assert (piece.state, piece.exit_code, piece.stdout) == (RunState.KILLED, 137, b"ready\n")
    for pid in (*children, *place.pids(run_id)):
        await gone(pid)
    assert (await place.runs.look(bystander)).state is RunState.RUNNING
    await place.runs.kill(run_id)


async def test_runs_are_asked_to_end_before_they_are_killed(place: Place) -> None:
    willing = await place.start("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    deaf = await place.start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    for run_id in (willing, deaf):
        await place.says(run_id, b"ready")
    await place.runs.end_all(2)
    first, second = await place.ended(willing), await place.ended(deaf)
    assert (first.exit_code, first.stdout) == (5, b"ready\nbye\n")
    assert (second.state, second.exit_code) == (RunState.KILLED, 137)


async def test_what_an_ended_run_left_behind_can_be_killed(place: Place) -> None:
    run_id = await place.start("sleep 600 & echo $!")
    piece = await place.ended(run_id)
    pid = int(piece.stdout)
    assert is_alive(pid)
    await place.runs.kill(run_id)
    await gone(pid)
    assert (await place.runs.look(run_id)).state is RunState.EXITED


@pytest.mark.requires("busybox")
async def test_the_scripts_run_in_another_shell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def argv(script: str, *args: str) -> tuple[str, ...]:
        return ("busybox", "sh", "-c", script.replace("/bin/sh -c", "busybox sh -c"), "gitmachine", *args)

    monkeypatch.setattr(scripts, "argv", argv)
    run_id = await place.start("cat; echo err >&2; exit 4", stdin=b"in")
    piece = await place.ended(run_id)
    assert (piece.exit_code, piece.stdout, piece.stderr) == (4, b"in", b"err\n")
    sleeper = await place.start("setsid sleep 600 & echo ready; wait")
    await place.says(sleeper, b"ready")
    await place.runs.kill(sleeper)
    assert (await place.ended(sleeper)).state is RunState.KILLED
