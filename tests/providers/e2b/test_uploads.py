"""One file of this host into a sandbox, as one request, with each daemon. Time budget: 10 s."""

from __future__ import annotations

import os
import subprocess

import pytest

from gitmachine import MachineError
from gitmachine.archives import LocalFileError, Transfer
from gitmachine.errors import MachineIsADirectoryError
from gitmachine_e2b import E2BMachine
from providers.e2b.conftest import config_for, sh

SIZE = 20 << 20


@pytest.fixture
def large(tmp_path):
    """Make a file with a mode and a time of its own."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    path.chmod(0o754)
    os.utime(path, (1_234_567_890.5, 1_234_567_890.5))
    return path


@pytest.fixture
async def machine(emulator):
    """A running machine."""
    made = E2BMachine(config_for(emulator))
    await made.start()
    yield made
    emulator.faults.clear()
    await made.stop()


def posts(emulator):
    return [record for record in emulator.requests if (record.method, record.path) == ("POST", "/files")]


@pytest.mark.parametrize("version", [None, "0.5.6"])
async def test_a_file_is_one_request_and_keeps_its_mode_and_time(emulator, large, version):
    machine = E2BMachine(config_for(emulator, **({"template": f"envd:{version}"} if version else {})))
    await machine.start()
    try:
        await sh(machine, "mkdir -p a && ln -s /etc/passwd a/f")
        assert await machine.upload(large, "a/f") == Transfer(files=1, bytes=SIZE)
        told = await sh(machine, "stat -c '%F %s %a %Y %U' a/f; ls -A a; cat a/f | cksum; id -un")
        here = subprocess.run(["cksum"], input=large.read_bytes(), check=True, capture_output=True).stdout.decode()
        lines = told.stdout.split("\n")
        assert lines[0].startswith(f"regular file {SIZE} 754 1234567890 ")
        assert lines[0].endswith(f" {lines[3]}")
        assert (lines[1], lines[2]) == ("f", here.strip())
        assert len(posts(emulator)) == 1
    finally:
        await machine.stop()


async def test_a_name_that_is_no_text_and_missing_parents_are_fine(machine, large):
    name = os.fsdecode(b"p/\xff/q\n")
    await machine.upload(large, name)
    assert (await sh(machine, "cat p/*/* | wc -c")).stdout.strip() == str(SIZE)
    with pytest.raises(MachineIsADirectoryError):
        await machine.upload(large, "p")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_upload_that_is_cut_replaces_nothing_and_leaves_nothing(emulator, machine, large, when):
    await machine.write_file("f", "before")
    emulator.faults.add("cut", path="/files", when=when)
    with pytest.raises(MachineError):
        await machine.upload(large, "f")
    assert (await sh(machine, "cat f; ls -A | grep gitmachine")).stdout == "before"


async def test_a_file_that_shrinks_meanwhile_is_an_error_of_this_host(machine, large, monkeypatch):
    reading = os.read

    def shrinking(fd, size):
        data = reading(fd, size)
        if len(data) == 1 << 20:
            os.truncate(large, 1 << 20)
        return data

    monkeypatch.setattr(os, "read", shrinking)
    with pytest.raises(LocalFileError, match="became smaller"):
        await machine.upload(large, "f")
    monkeypatch.undo()
    assert (await sh(machine, "ls -A | grep -e gitmachine -e '^f$'")).stdout == ""
