"""Children that are started to be left behind, and forgotten once they have ended.

Time budget: 2 s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from gitmachine import MachineStartError
from gitmachine_local import LocalConfig, LocalMachine, _processes

pytestmark = pytest.mark.requires("linux")


def children():
    """Return the pids of this process's children, zombies included, and the start times that go with them."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(words[1]) == os.getpid():
                found[int(entry.name)] = words[19]
    return found


@pytest.mark.requires("sandbox")
async def test_a_machine_that_was_stopped_leaves_no_zombie(isolation):
    before = children()
    machine = LocalMachine(LocalConfig(isolation=isolation))
    await machine.start()
    assert len(children().items() - before.items()) == 1
    await machine.stop()
    assert children().items() <= before.items()


@pytest.mark.requires("sandbox")
async def test_a_machine_that_ended_by_itself_is_forgotten_in_time(isolation, monkeypatch, helpers):
    before = children()
    machine = LocalMachine(LocalConfig(isolation=isolation))
    await machine.start()
    record = machine._record
    os.kill(record.first[0], signal.SIGKILL)
    await helpers.eventually(lambda: not _processes.is_alive(record.monitor or record.first))
    monkeypatch.setattr(_processes, "REAP_SECONDS", 0.0)
    await helpers.eventually(lambda: _processes.reap_all() or children().items() <= before.items())
    await machine.stop()


def test_a_child_is_started_apart_from_this_process_and_known_until_it_has_ended(tmp_path):
    log = tmp_path / "log"
    identity = _processes.start([shutil.which("sleep"), "600"], [], log)
    try:
        assert _processes.is_alive(identity)
        assert os.getsid(identity[0]) == identity[0] != os.getsid(0)
        assert Path(f"/proc/{identity[0]}/cwd").readlink() == Path("/")
        _processes.reap(identity)
        assert _processes._children[identity[0]] == identity
    finally:
        _processes.end(identity)
    _processes.reap(identity)
    assert identity[0] not in _processes._children
    with pytest.raises(ProcessLookupError):
        os.kill(identity[0], 0)


def test_a_child_that_somebody_else_waited_for_is_forgotten_and_never_taken_for_another(tmp_path):
    log = tmp_path / "log"
    identity = _processes.start([shutil.which("sleep"), "600"], [], log)
    _processes.end(identity)
    os.waitpid(identity[0], 0)
    _processes.reap(identity)
    assert identity[0] not in _processes._children
    other = _processes.start([shutil.which("sleep"), "600"], [], log)
    try:
        _processes._children[other[0]] = (other[0], "another start")
        _processes.end(other)
        _processes.reap(other)
        assert os.waitpid(other[0], 0)[0] == other[0]  # it was left to whom it belongs
    finally:
        _processes.end(other)


async def test_a_program_that_cannot_be_run_is_named(tmp_path, helpers):
    broken = tmp_path / "bwrap"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(MachineStartError, match=r"bwrap cannot be run .*Exec format error"):
        await LocalMachine(LocalConfig(bubblewrap=str(broken))).start()
    assert helpers.leftovers() == []
