"""What a machine is on its host: a directory, marked processes; made, found, taken over, paused, removed.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import attrs
import pytest

from gitmachine import ExecRequest, MachineLostError, MachineStartError, MachineState
from gitmachine_ssh import SSHMachine
from gitmachine_ssh.machine import connect, find, inventory
from support.sshd import DASH, serving_sshd

pytestmark = pytest.mark.requires("sshd", "root")

HOSTILE = (
    'it\'s $(touch pwned) `touch pwned` \\ "x"',
    "two\nlines",
    "-rf",
    "../../etc",
    "grüße \udcff",
    "@LABEL@ @BASE@ %s",
    "x" * 300,
)


async def test_a_machine_is_a_private_directory_with_its_label_in_it(machine, config):
    directory = Path(machine.workdir).parent
    assert directory == Path(config.base_dir) / machine.id
    assert directory.stat().st_mode & 0o777 == 0o700
    assert Path(machine.workdir).stat().st_mode & 0o077 == 0


@pytest.mark.requires("ssh-accounts")
async def test_machines_are_below_the_home_of_the_account_unless_told_otherwise(helpers, tmp_path):
    with serving_sshd() as server:
        machine = SSHMachine(helpers.configure(server, tmp_path / "known_hosts", user=DASH))
        await machine.start()
        try:
            assert machine.workdir == f"/home/{DASH}/.gitmachine/machines/{machine.id}/home"
            result = await machine.execute(ExecRequest(argv=["sh", "-c", "id -un; pwd; echo $HOME; umask"]))
            assert result.stdout == f"{DASH}\n{machine.workdir}\n{machine.workdir}\n0022\n"
        finally:
            await machine.stop()


async def test_labels_of_any_kind_come_back_exactly_and_run_nothing(config):
    machines = []
    try:
        for label in HOSTILE:
            machine = SSHMachine(config)
            machine.label = label
            await machine.start()
            machines.append(machine)
        listed = await inventory(config)
        assert listed == {machine.id: machine.label for machine in machines}
        for machine in machines:
            assert await find(machine.label, config) == machine.id
        taken = await connect(machines[0].id, config)
        assert taken.label == HOSTILE[0]
        await taken.close()
        assert await find("nobody's", config) is None
    finally:
        for machine in machines:
            await machine.stop()
    assert await inventory(config) == {}
    assert not list(Path(config.base_dir).rglob("pwned"))


async def test_a_base_directory_of_any_name_is_only_a_name(config, tmp_path, helpers):
    base = tmp_path / 'it\'s $(touch pwned) @ID@ "q" -x'
    machine = SSHMachine(attrs.evolve(config, base_dir=str(base)))
    await machine.start()
    try:
        assert machine.workdir == f"{base}/{machine.id}/home"
        assert (await helpers.sh(machine, "pwd; touch made")).stdout == f"{machine.workdir}\n"
        await machine.write_file("file", b"x")
        assert await machine.list_files() == ["file", "made"]
        await machine.pause()
        await machine.resume()
    finally:
        await machine.stop()
    assert list(base.iterdir()) == []


async def test_two_machines_on_one_host_do_not_meet(config, helpers):
    first, second = SSHMachine(config), SSHMachine(config)
    await first.start()
    await second.start()
    beat = "while :; do echo x >> beat; sleep 0.05; done"
    try:
        for machine in (first, second):
            await helpers.sh(machine, f"setsid env -i PATH=\"$PATH\" sh -c '{beat}' >/dev/null 2>&1 </dev/null &")
            await helpers.eventually(Path(machine.workdir, "beat").exists)
        await first.pause()
        await _grows(second, helpers)
        await first.terminate_processes()
        await _grows(second, helpers)
        await first.stop()
        await _grows(second, helpers)
    finally:
        await second.stop()
        await first.stop()


async def _grows(machine, helpers):
    file = Path(machine.workdir, "beat")
    before = file.stat().st_size
    await helpers.eventually(lambda: file.stat().st_size > before, "the other machine's work")


async def test_a_paused_machine_is_taken_over_paused_and_continues(machine, config, helpers):
    await helpers.sh(machine, "while :; do echo x >> beat; sleep 0.05; done >/dev/null 2>&1 &")
    await helpers.eventually(Path(machine.workdir, "beat").exists)
    await machine.pause()
    other = await connect(machine.id, config)
    try:
        assert other.state is MachineState.PAUSED
        await other.resume()
        await _grows(other, helpers)
        third = await connect(machine.id, config)
        assert third.state is MachineState.RUNNING
        await third.close()
    finally:
        await other.close()


async def test_a_host_that_was_rebooted_has_the_files_and_no_processes(machine, config, helpers):
    await helpers.sh(machine, "echo kept > kept; sleep 600 >/dev/null 2>&1 &")
    await machine.pause()
    # As a reboot leaves it: the directory, another boot, nothing that runs.
    Path(machine.workdir).parent.joinpath("paused.boot").write_text("another boot\n")
    for pid in helpers.marked_with(machine.id):
        os.kill(pid, 9)
    other = await connect(machine.id, config)
    try:
        assert other.state is MachineState.RUNNING
        assert (await helpers.sh(other, "cat kept")).stdout == "kept\n"
    finally:
        await other.close()


async def test_stop_removes_what_commands_made_unremovable(machine, helpers):
    script = "mkdir -p a/b/c && echo x > a/b/c/file && ln -s / a/root && chmod 000 a/b && chmod 500 a"
    assert (await helpers.sh(machine, script)).exit_code == 0  # the fixture looks that nothing is left


async def test_a_machine_that_is_gone_is_lost_for_every_operation_and_can_be_stopped(config, helpers):
    machine = SSHMachine(config)
    await machine.start()
    await helpers.sh(machine, "true")
    other = await connect(machine.id, config)
    await other.stop()
    for call in (
        lambda: helpers.sh(machine, "true"),
        lambda: machine.spawn(ExecRequest(argv=["cat"], open_stdin=True)),
        lambda: machine.read_file("x"),
        lambda: machine.write_file("x", b""),
        lambda: machine.write_file("new/x", b""),
        machine.list_files,
    ):
        with pytest.raises(MachineLostError, match=machine.id):
            await call()
    assert not Path(machine.workdir).exists()
    await machine.stop()
    with pytest.raises(MachineLostError, match="'0123456789abcdef'"):
        await connect("0123456789abcdef", config)
    with pytest.raises(MachineLostError, match=r"'\.\./x'"):
        await connect("../x", config)


async def test_everything_that_is_missing_on_the_host_is_told_at_once(config, helpers, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "env", "mkdir", "df", "rm", "mv", "awk", "grep"):
        (tools / name).symlink_to(shutil.which(name))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text(f"PATH={tools}\n")
    with helpers.serving(options={"SetEnv": f"HOME={home}"}) as server:
        poor = helpers.configure(server, tmp_path / "known", base_dir="/proc/no/such/place")
        with pytest.raises(MachineStartError) as caught:
            await SSHMachine(poor).start()
    message = str(caught.value)
    assert "git" in message
    assert "are not installed or not in PATH" in message
    assert "/proc/no/such/place cannot be made" in message
    assert "grep" not in message.partition("are not installed")[0]


@pytest.mark.requires("root", "linux")
async def test_a_full_disk_refuses_a_machine_and_says_how_much_is_free(config, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk))
    assert await mount.wait() == 0
    try:
        with pytest.raises(MachineStartError, match=r"only \d+ MiB are free"):
            await SSHMachine(attrs.evolve(config, base_dir=str(disk / "machines"))).start()
        assert list((disk / "machines").iterdir()) == []
    finally:
        umount = await asyncio.create_subprocess_exec("umount", str(disk))
        assert await umount.wait() == 0


async def test_a_start_that_is_cancelled_leaves_nothing(config, helpers):
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2):
        machine = SSHMachine(config)
        starting = asyncio.ensure_future(machine.start())
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.wait([starting], timeout=60)
        if not starting.cancelled():
            await machine.stop()
        assert not Path(config.base_dir).exists() or list(Path(config.base_dir).iterdir()) == []


async def test_a_login_that_prints_waits_and_sets_things_changes_no_result(config, helpers, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text(
        "echo welcome; echo oops >&2; printf 'no newline'\nsleep 0.3\ncd /\numask 077\n"
        "export BASH_ENV=/tmp/evil ENV=/tmp/evil GIT_DIR=/nowhere LEAK=1\nalias ls=false\nset -u\n"
    )
    with helpers.serving(options={"SetEnv": f"HOME={home}"}) as server:
        noisy = helpers.configure(server, tmp_path / "known", base_dir=str(tmp_path / "machines"))
        machine = SSHMachine(noisy)
        await machine.start()
        try:
            result = await helpers.sh(machine, "pwd; umask; echo ${LEAK-none} ${GIT_DIR-none} ${BASH_ENV-none} $UNSET")
            assert result.stdout == f"{machine.workdir}\n0022\nnone none none\n"
            assert result.stderr == ""
            await machine.write_file("file", b"\0\xff")
            assert await machine.read_file("file") == b"\0\xff"
            assert await machine.list_files() == ["file"]
            process = await machine.spawn(ExecRequest(argv=["cat"], open_stdin=True))
            await process.stdin.write(b"through")
            await process.stdin.close()
            assert b"".join([data async for data in process.stdout]) == b"through"
        finally:
            await machine.stop()
