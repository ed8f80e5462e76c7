"""Machines over a real sshd for the tests of the SSH provider; each is proven to leave nothing behind.

Time budget: no tests here; 0.5 s for each machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from gitmachine import ExecRequest
from gitmachine_ssh import SSHConfig, SSHMachine
from support.sshd import client_key, serving_sshd

PATIENCE_SECONDS = 60


async def eventually(condition, what="the condition"):
    """Wait, within a generous deadline, until condition() is true (or awaits to something true); return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE_SECONDS} s"
        await asyncio.sleep(0.02)


async def sh(machine, script, **options):
    """Run a script in a machine."""
    return await machine.execute(ExecRequest(shell=script, timeout=PATIENCE_SECONDS, **options))


def configure(server, known_hosts, **options):
    """Return the configuration that leads to a test server as root, and to nothing of the tester's own."""
    known_hosts.write_text(server.known_hosts())
    given = {
        "host": server.address,
        "port": server.port,
        "user": "root",
        "identity_file": (str(client_key()),),
        "known_hosts": (str(known_hosts),),
        "config_file": None,
        "agent": False,
    }
    return SSHConfig(**{**given, **options})


def marked_with(machine_id):
    """Return the processes that have a machine in their environment."""
    word = f"GITMACHINE_MACHINE={machine_id}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@contextlib.contextmanager
def serving(**keywords):
    """Run a server whose root has an empty home: what the tester's own rc files do is not tested here."""
    home = Path(tempfile.mkdtemp(prefix="gmh-", dir="/tmp"))
    options = {"SetEnv": f"HOME={home}", **keywords.pop("options", {})}
    try:
        with serving_sshd(options=options, **keywords) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd():
    """A server that nobody stops."""
    with serving() as server:
        yield server


@pytest.fixture
def config(sshd, tmp_path):
    """The way to it as root; machines are made in the test's own directory."""
    return configure(sshd, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))


@pytest.fixture
async def machine(config):
    """A running machine."""
    machine = SSHMachine(config)
    await machine.start()
    machine_id = machine.id
    try:
        yield machine
    finally:
        await machine.stop()
    assert list(Path(config.base_dir).iterdir()) == []
    assert marked_with(machine_id) == []


class Helpers:
    """The functions of this module, for tests that cannot import a conftest."""

    eventually = staticmethod(eventually)
    sh = staticmethod(sh)
    configure = staticmethod(configure)
    serving = staticmethod(serving)
    marked_with = staticmethod(marked_with)


@pytest.fixture
def helpers():
    return Helpers
