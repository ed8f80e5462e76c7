"""How the supervisor gets into a sandbox: in one piece, and with little of the standard library.

Time budget: 2 s.
"""

from __future__ import annotations

import marshal
import subprocess
import sys

import attrs
import pytest

from gitmachine_local import LocalMachine, _payload, _sandbox

LOADED = (
    "import marshal, sys; pack, made = marshal.loads(sys.stdin.buffer.read()), {}; exec(pack[0], made); "
    "before = set(sys.modules); made['boot'](*pack[1:]); import gitmachine_local.supervisor.loop as loop; "
    "print(sorted(set(sys.modules) - before)); from gitmachine_local.supervisor import files; print(files.__name__)"
)


@pytest.mark.parametrize("compiled", [True, False], ids=["code", "source"])
def test_the_modules_come_from_the_payload_alone(compiled):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADED],
        input=_payload.payload(compiled=compiled),
        capture_output=True,
        check=True,
        timeout=60,
    )
    loaded, later = done.stdout.decode().splitlines()
    for name in _payload.NOW:
        assert f"'gitmachine_local.supervisor.{name}'" in loaded
    for name in _payload.LATER:
        assert f"'gitmachine_local.supervisor.{name}'" not in loaded
    assert later == "gitmachine_local.supervisor.files"


@pytest.mark.requires("linux")
def test_a_start_loads_nothing_that_is_written_in_python():
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADED.replace("; from gitmachine_local.supervisor import files", ";#")],
        input=_payload.payload(compiled=True),
        capture_output=True,
        check=True,
        timeout=60,
    )
    for name in ("os", "collections.abc", "contextlib", "typing", "enum", "__future__", "ctypes"):
        assert f"'{name}'" not in done.stdout.decode()


def test_every_module_of_the_supervisor_is_in_the_payload():
    there = {path.stem for path in _payload.PACKAGE.glob("*.py")} - {"__init__", "boot"}
    assert there == {*_payload.NOW, *_payload.LATER}


def test_source_is_packed_so_that_any_python_reads_it():
    assert marshal.loads(_payload.payload(compiled=False))[1] == _payload.PACKAGES
    assert all(isinstance(code, str) for _name, code in marshal.loads(_payload.payload(compiled=False))[2])


@pytest.mark.requires("sandbox")
async def test_a_machine_works_whose_python_is_another_one(monkeypatch, helpers):
    other = attrs.evolve(_sandbox.interpreter(), is_this=False)
    monkeypatch.setattr(_sandbox, "interpreter", lambda: other)
    machine = LocalMachine()
    await machine.start()
    try:
        assert (await helpers.sh(machine, "echo hi; ls -A /run")).stdout == "hi\n"
        await machine.write_file("a", b"b")
        assert await machine.read_file("a") == b"b"
    finally:
        await machine.stop()
    assert helpers.leftovers() == []
