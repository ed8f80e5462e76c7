"""What the fake machine offers beyond being a machine: scripts, a record of requests, a death, other clients.

Time budget: 10 s.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitmachine import AsyncGitMachine, GitMachine
from gitmachine.errors import CommandTimeoutError, MachineFileError, MachineLostError, UnsupportedOperation
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.machine import Capability, MachineState
from gitmachine.testing import FakeMachine
from support.repos import make_remote, show

OWN = str(os.getpid())
"""Part of what our commands are told from everybody else's by."""


def sh(script: str, **fields: object) -> ExecRequest:
    return ExecRequest(shell=script, **fields)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeMachine]:
    machine = FakeMachine(root=tmp_path)
    await machine.start()
    yield machine
    await machine.stop()


async def test_a_scripted_answer_is_given_instead_of_running_anything(fake: FakeMachine):
    fake.script(r"^claude ", "I did it\n")
    seen: list[str] = []
    result = await fake.execute(ExecRequest(argv=["claude", "-p", "do it"], on_stdout=seen.append))
    assert (result.exit_code, result.stdout, seen) == (0, "I did it\n", ["I did it\n"])
    assert (await fake.execute(sh("echo real"))).stdout == "real\n"


async def test_an_answer_may_be_a_code_a_result_an_error_or_a_function(fake: FakeMachine):
    fake.script("code", 3)
    fake.script("result", ExecResult(exit_code=4, stderr_bytes=b"oh"))
    fake.script("error", MachineLostError("scripted"))
    fake.script("function", lambda request: request.env["NAME"])
    assert (await fake.execute(sh("code"))).exit_code == 3
    result = await fake.execute(sh("result"))
    assert (result.exit_code, result.stderr) == (4, "oh")
    with pytest.raises(MachineLostError, match="scripted"):
        await fake.execute(sh("error"))
    assert (await fake.execute(sh("function", env={"NAME": "Ada"}))).stdout == "Ada"


async def test_an_answer_can_be_given_a_few_times_and_the_latest_pattern_wins(fake: FakeMachine):
    fake.script("npm", "always")
    fake.script("npm", "once", times=1)
    assert [(await fake.execute(sh("npm ci"))).stdout for _ in range(3)] == ["once", "always", "always"]


async def test_a_spawned_process_can_be_scripted_too(fake: FakeMachine):
    fake.script("server", ExecResult(exit_code=7, stdout_bytes=b"up"))
    process = await fake.spawn(sh("server"))
    assert [data async for data in process.stdout] == [b"up"]
    assert await process.wait() == 7


async def test_every_request_is_remembered_in_order(fake: FakeMachine):
    fake.script("b", 0)
    await fake.execute(sh("true"))
    await fake.execute(ExecRequest(argv=["b"]))
    assert [request.command[-1] for request in fake.requests] == ["true", "b"]


async def test_it_lives_below_the_directory_that_was_given_and_leaves_nothing(tmp_path: Path):
    machine = FakeMachine(root=tmp_path)
    await machine.start()
    assert Path(machine.workdir).is_relative_to(tmp_path)
    await machine.execute(sh("mkdir -p locked/in && chmod 0 locked; sleep 600 & setsid sleep 601." + OWN + " &"))
    await machine.stop()
    assert list(tmp_path.iterdir()) == []
    assert not _running(["sleep", f"601.{OWN}"])


async def test_what_is_not_declared_is_refused():
    machine = FakeMachine(capabilities={Capability.PAUSE})
    await machine.start()
    try:
        with pytest.raises(UnsupportedOperation, match="fake machines cannot spawn"):
            await machine.spawn(sh("true"))
        assert (await machine.execute(sh("echo on"))).stdout == "on\n"
        await machine.pause()
        await machine.resume()
    finally:
        await machine.stop()


async def test_another_object_takes_it_over_paused_as_it_is(fake: FakeMachine):
    await fake.pause()
    assert fake.id is not None
    other = await FakeMachine.connect(fake.id)
    assert (other.state, other.id, other.workdir) == (MachineState.PAUSED, fake.id, fake.workdir)
    await other.resume()


async def test_after_its_death_everything_is_a_lost_machine_and_nobody_can_connect(fake: FakeMachine):
    assert fake.id is not None
    process = await fake.spawn(sh("sleep 600"))
    await fake.die("the host burned down")
    with pytest.raises(MachineLostError, match="the host burned down"):
        await process.wait()
    with pytest.raises(MachineLostError, match="the host burned down"):
        await fake.read_file("x")
    with pytest.raises(MachineLostError, match=fake.id):
        await FakeMachine.connect(fake.id)


async def test_a_limited_disk_is_full_when_it_is_full(fake: FakeMachine):
    fake.free_bytes = 10
    await fake.write_file("fits", b"1234567890")
    with pytest.raises(MachineFileError) as caught:
        await fake.write_file("fits", b"12345678901")
    assert caught.value.errno == errno.ENOSPC
    assert await fake.read_file("fits") == b"1234567890"
    assert await fake.list_files() == ["fits"]


async def test_a_timeout_reaches_a_daemon_that_hid_in_every_way(fake: FakeMachine):
    hidden = f'setsid env -i PATH="$PATH" sh -c "sleep 602.{OWN} & sleep 602.{OWN}"'
    with pytest.raises(CommandTimeoutError):
        await fake.execute(sh(f"( {hidden} & ) ; sleep 603.{OWN}", timeout=1.0))
    assert not _running(["sleep", f"602.{OWN}"])
    assert not _running(["sleep", f"603.{OWN}"])


async def test_commands_see_nothing_of_the_clients_environment(fake: FakeMachine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_MINE", "canary")
    assert "canary" not in (await fake.execute(sh("env"))).stdout


async def test_a_session_over_it_is_a_real_one(tmp_path: Path):
    remote = make_remote(tmp_path / "remote.git")
    machine = FakeMachine()
    machine.script("^agent", 0)
    async with AsyncGitMachine(machine, repository=str(remote), session="feature") as gm:
        assert (await gm.run("agent fix it")).ok
        await gm.run("echo hi > new.txt", check=True)
    assert show(remote, "feature:new.txt") == "hi"


def test_it_serves_the_blocking_class_as_well(tmp_path: Path):
    remote = make_remote(tmp_path / "remote.git")
    with GitMachine(FakeMachine(), repository=str(remote), session="feature") as gm:
        gm.run("echo hi > new.txt", check=True)
    assert show(remote, "feature:new.txt") == "hi"


def _running(argv: list[str]) -> bool:
    wanted = b"\0".join(word.encode() for word in argv) + b"\0"
    for entry in os.listdir("/proc"):  # noqa: PTH208  # names are what is wanted
        try:
            if entry.isdigit() and Path("/proc", entry, "cmdline").read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False
