"""Files of a local machine: exact bytes, atomic, any name, bounded, and errors that are also the built-in ones.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from gitmachine.errors import (
    MachineFileError,
    MachineFileNotFoundError,
    MachineIsADirectoryError,
    MachineNotADirectoryError,
    MachinePermissionError,
)

pytestmark = pytest.mark.requires("sandbox")

NAMES = ["with space", "new\nline", "-rf", "--help", "ä😀", os.fsdecode(b"\xff\xfe"), "q'\"$`", "x" * 255]


async def test_bytes_are_exact_and_names_may_be_anything(machine):
    for name in NAMES:
        data = os.urandom(1000) + os.fsencode(name)
        await machine.write_file(name, data)
        assert await machine.read_file(name) == data
    assert await machine.list_files() == sorted(NAMES)


async def test_sizes_around_the_pipes_capacity_and_large_ones(machine):
    for size in (0, 1, 65535, 65536, 65537, (1 << 20) + 1, 30_000_000):
        data = os.urandom(min(size, 1 << 16)) * (size // (1 << 16) + 1)
        await machine.write_file("f", data[:size])
        assert await machine.read_file("f") == data[:size]


async def test_text_is_utf8_and_keeps_its_line_ends(machine):
    await machine.write_file("t", "ä\r\nb\n")
    assert await machine.read_file("t") == "ä\r\nb\n".encode()


async def test_parents_are_made_and_paths_start_from_the_home(machine, helpers):
    await machine.write_file("a/b/c.txt", "deep")
    assert await machine.read_file(f"{machine.workdir}/a/b/c.txt") == b"deep"
    assert (await helpers.sh(machine, "cat a/b/c.txt")).stdout == "deep"
    assert await machine.list_files("a") == ["b"]


async def test_a_files_mode_is_kept_and_a_symlink_stays_one(machine, helpers):
    await helpers.sh(machine, "echo old > real; chmod 751 real; ln -s real link")
    await machine.write_file("link", "new")
    result = await helpers.sh(machine, "stat -c %a real; cat real; readlink link; ls -A; umask")
    assert result.stdout == "751\nnewreal\nlink\nreal\n0022\n"
    await machine.write_file("fresh", "")
    assert (await helpers.sh(machine, "stat -c %a fresh")).stdout == "644\n"


async def test_a_file_is_replaced_and_not_written_over(machine, helpers):
    await helpers.sh(machine, "echo old > f; exec 5< f; (while [ ! -e go ]; do sleep 0.01; done; cat <&5 > seen) &")
    await machine.write_file("f", "new")
    await machine.write_file("go", "")

    async def seen():
        return (await helpers.sh(machine, "cat seen")).stdout == "old\n"

    await helpers.eventually(seen)


async def test_limits_are_kept(machine, helpers):
    await machine.write_file("f", b"x" * 100)
    assert len(await machine.read_file("f", max_bytes=100)) == 100
    with pytest.raises(MachineFileError, match="limit") as caught:
        await machine.read_file("f", max_bytes=99)
    assert caught.value.errno == errno.EFBIG
    assert (await helpers.sh(machine, "echo usable")).stdout == "usable\n"


async def test_errors_are_also_the_built_in_ones(machine, helpers):
    await helpers.sh(machine, "mkdir d; echo > f; ln -s loop loop; mkfifo fifo")
    for path, error in [
        ("nope", MachineFileNotFoundError),
        ("", MachineFileNotFoundError),
        ("d", MachineIsADirectoryError),
        ("f/x", MachineNotADirectoryError),
        ("loop", MachineFileError),
        ("fifo", MachineFileError),
        ("nul\0", MachineFileError),
        ("y" * 300, MachineFileError),
    ]:
        with pytest.raises(error) as caught:
            await machine.read_file(path)
        assert caught.value.filename == path
    for path, error in [("d", MachineIsADirectoryError), ("d/", MachineIsADirectoryError), ("f/x", OSError)]:
        with pytest.raises(error):
            await machine.write_file(path, "x")
    with pytest.raises(MachineNotADirectoryError):
        await machine.list_files("f")
    with pytest.raises(FileNotFoundError):
        await machine.list_files("nope")
    assert "fifo" in await machine.list_files()


async def test_what_the_machine_may_not_write_is_a_permission_error(sandbox, helpers):
    for path in ("/usr/x", "/etc/x", "/x"):
        with pytest.raises((MachinePermissionError, MachineFileError), match=r"read-only|denied"):
            await sandbox.write_file(path, "x")
    await helpers.sh(sandbox, "mkdir shut; chmod 500 shut; echo > secret; chmod 0 secret")
    with pytest.raises(MachinePermissionError):
        await sandbox.write_file("shut/x", "x")
    with pytest.raises(MachinePermissionError):
        await sandbox.read_file("secret")


async def test_a_write_that_breaks_off_changes_nothing(machine, helpers):
    await machine.write_file("f", "old")
    task = asyncio.ensure_future(machine.write_file("f", b"x" * 50_000_000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def clean():
        return await machine.list_files() == ["f"]

    await helpers.eventually(clean)
    assert await machine.read_file("f") == b"old"


async def test_a_symlink_out_of_the_sandbox_leads_nowhere_on_the_host(sandbox, helpers, tmp_path):
    (tmp_path / "host-file").write_text("host secret")
    await helpers.sh(sandbox, f"ln -s {tmp_path}/host-file link; ln -s {tmp_path} dir; ln -s /etc/shadow shadow")
    for path in ("link", "shadow", "dir/host-file"):
        with pytest.raises(FileNotFoundError):
            await sandbox.read_file(path)
    await sandbox.write_file("dir/host-file", "overwritten?")  # /tmp inside is the machine's own
    assert (tmp_path / "host-file").read_text() == "host secret"


async def test_files_can_be_moved_while_commands_run(machine, helpers):
    running = asyncio.ensure_future(helpers.sh(machine, "while [ ! -e stop ]; do sleep 0.01; done", timeout=60))
    await asyncio.gather(*(machine.write_file(f"f{i}", f"{i}" * 10_000) for i in range(30)))
    contents = await asyncio.gather(*(machine.read_file(f"f{i}") for i in range(30)))
    assert contents == [(f"{i}" * 10_000).encode() for i in range(30)]
    await machine.write_file("stop", "")
    assert (await running).exit_code == 0
