"""Files over SFTP and by the shell alike: exact, atomic, and each refusal is the error that it is.

Time budget: 20 s.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import (
    MachineFileError,
    MachineFileNotFoundError,
    MachineIsADirectoryError,
    MachineNotADirectoryError,
    MachinePermissionError,
)
from gitmachine_ssh import SSHMachine
from support.sshd import DASH, serving_sshd

pytestmark = pytest.mark.requires("sshd", "root")


@pytest.fixture(params=["sftp", "shell"])
async def machine(request, helpers, tmp_path):
    """A running machine, over SFTP and without."""
    with helpers.serving(sftp=request.param == "sftp") as server:
        config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
        machine = SSHMachine(config)
        await machine.start()
        try:
            yield machine
            assert machine._place.files.sftp.off == (request.param == "shell")
        finally:
            await machine.stop()


async def test_bytes_are_exact_in_any_amount(machine):
    for size in (0, 1, 255, 65_536, 5_000_001):
        data = os.urandom(size)
        await machine.write_file("file", data)
        assert await machine.read_file("file") == data


async def test_a_link_is_written_through_and_stays(machine):
    await machine.write_file("real", b"old")
    Path(machine.workdir, "link").symlink_to("real")
    await machine.write_file("link", b"new")
    assert Path(machine.workdir, "link").is_symlink()
    assert await machine.read_file("real") == b"new"


async def test_a_new_file_is_readable_and_an_old_one_keeps_its_mode(machine):
    await machine.write_file("new", b"")
    path = Path(machine.workdir, "new")
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o4750)
    await machine.write_file("new", b"again")
    assert path.stat().st_mode & 0o777 == 0o750


async def test_a_file_without_a_size_is_read_to_its_end(machine):
    assert b"Linux version" in await machine.read_file("/proc/version")
    with pytest.raises(MachineFileError) as caught:
        await machine.read_file("/proc/kallsyms", max_bytes=10_000)
    assert caught.value.errno == errno.EFBIG


async def test_each_refusal_is_its_own_error(machine):
    await machine.write_file("file", b"x")
    Path(machine.workdir, "d").mkdir()
    Path(machine.workdir, "loop").symlink_to("loop")
    cases = (
        (machine.read_file("none"), MachineFileNotFoundError),
        (machine.read_file("none/deep/er"), MachineFileNotFoundError),
        (machine.read_file("file/x"), MachineNotADirectoryError),
        (machine.read_file("d"), MachineIsADirectoryError),
        (machine.write_file("d", b""), MachineIsADirectoryError),
        (machine.write_file("new/", b""), MachineIsADirectoryError),
        (machine.write_file("file/x", b""), MachineNotADirectoryError),
        (machine.list_files("none"), MachineFileNotFoundError),
        (machine.list_files("file"), MachineNotADirectoryError),
        (machine.read_file("/dev/null"), MachineFileError),
        (machine.read_file(""), MachineFileNotFoundError),
        (machine.read_file("nul\0"), MachineFileError),
    )
    for call, expected in cases:
        with pytest.raises(expected):
            await call
    assert Path(machine.workdir, "file").read_bytes() == b"x"


@pytest.mark.requires("linux")
async def test_a_full_disk_is_enospc_and_the_old_file_stays(machine):
    disk = Path(machine.workdir, "disk")
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    assert await mount.wait() == 0
    try:
        await machine.write_file("disk/file", b"old")
        with pytest.raises(MachineFileError) as caught:
            await machine.write_file("disk/file", b"x" * (2 << 20))
        assert caught.value.errno == errno.ENOSPC
        assert await machine.read_file("disk/file") == b"old"
        assert [path.name for path in disk.iterdir()] == ["file"]
    finally:
        umount = await asyncio.create_subprocess_exec("umount", str(disk))
        assert await umount.wait() == 0


@pytest.mark.requires("ssh-accounts")
@pytest.mark.parametrize("sftp", [True, False])
async def test_what_an_ordinary_user_may_not_do_is_a_permission_error(sftp, helpers, tmp_path):
    with serving_sshd(sftp=sftp) as server:
        config = helpers.configure(server, tmp_path / "known_hosts")
        machine = SSHMachine(attrs.evolve(config, user=DASH))
        await machine.start()
        try:
            for call in (
                machine.read_file("/etc/shadow"),
                machine.write_file("/etc/gitmachine-test", b""),
                machine.list_files("/root"),
            ):
                with pytest.raises(MachinePermissionError):
                    await call
        finally:
            await machine.stop()
