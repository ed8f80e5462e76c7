"""Machines whose processes have ended are started again on the home that they had. Time budget: 15 s."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gitmachine import AsyncGitMachine, MachineError, MachineLostError
from gitmachine.upkeep import collect_garbage
from gitmachine_local import LocalConfig, LocalMachine, _launch, _processes, _records
from support.crashing import crash
from support.repos import make_remote, show

pytestmark = pytest.mark.requires("sandbox")


@pytest.fixture
async def ended(isolation, helpers):
    """A machine that was killed: its configuration, its record, and a process of its that is left, if one can be."""
    config = LocalConfig(isolation=isolation, env={"COLOUR": "green"})
    machine = LocalMachine(config)
    await machine.start()
    record = machine._record
    try:
        await machine.write_file("work", b"precious")
        started = await helpers.sh(machine, "(setsid env -i /bin/sleep 1000 >/dev/null 2>&1 & echo $!)")
        stray = _processes.identify(int(started.stdout)) if isolation == "none" else None
        await kill(record, helpers)
        yield config, record, stray
    finally:
        await machine.close()
        if left := _records.Record.load(record.id):
            await asyncio.to_thread(left.destroy)
        assert helpers.leftovers(record) == []


async def kill(record, helpers):
    os.kill(record.first[0], signal.SIGKILL)
    await helpers.eventually(lambda: not _processes.is_alive(record.first))


async def test_connecting_starts_it_again_with_its_files(ended, helpers):
    config, record, stray = ended
    machine = await LocalMachine.connect(record.id, config)
    assert (machine.id, machine.state) == (record.id, "running")
    assert await machine.read_file("work") == b"precious"
    assert (await helpers.sh(machine, 'echo "$COLOUR"; pwd; ls')).stdout == f"green\n{machine.workdir}\nwork\n"
    assert not _processes.is_alive(stray)
    other = await LocalMachine.connect(record.id)
    assert (await helpers.sh(other, "cat work")).stdout == "precious"
    await other.close()
    await machine.stop()
    with pytest.raises(MachineLostError):
        await LocalMachine.connect(record.id)


async def test_a_machine_without_network_has_none_afterwards_whatever_the_configuration_says(helpers):
    machine = LocalMachine(LocalConfig())
    await machine.start()
    try:
        await kill(machine._record, helpers)
        again = await LocalMachine.connect(machine.id, LocalConfig(network="host", isolation="none"))
        result = await helpers.sh(again, "cat /proc/net/dev | tail -n +3 | cut -d: -f1; id -un")
        assert result.stdout.split() == ["lo", "user"]
        await again.close()
    finally:
        await machine.stop()


async def test_it_is_started_again_once_however_many_connect(ended, helpers):
    config, record, _stray = ended
    machines = await asyncio.gather(*(LocalMachine.connect(record.id, config) for _ in range(5)))
    assert len({_records.Record.load(record.id).first}) == 1
    for number, machine in enumerate(machines):
        await machine.write_file(f"f{number}", b"x")
    assert await machines[0].list_files() == sorted(["work", *(f"f{number}" for number in range(5))])
    for machine in machines:
        await machine.close()


async def test_one_that_does_not_start_again_keeps_its_files_and_says_where_they_are(ended, monkeypatch):
    config, record, _stray = ended

    def refuse(*_arguments):
        raise _launch.start_error("there is no room for a sandbox")

    with monkeypatch.context() as patch:
        patch.setattr(_launch, "launch", refuse)
        with pytest.raises(MachineError, match=r"does not start again: there is no room .*still there, in") as caught:
            await LocalMachine.connect(record.id, config)
    assert not isinstance(caught.value, MachineLostError)
    assert str(record.home) in str(caught.value)
    assert (record.home / "work").read_bytes() == b"precious"
    machine = await LocalMachine.connect(record.id, config)
    assert await machine.read_file("work") == b"precious"
    await machine.close()


async def test_connecting_may_be_cancelled_at_any_moment(ended):
    config, record, _stray = ended
    for turn in range(8):
        task = asyncio.ensure_future(LocalMachine.connect(record.id, config))
        await asyncio.sleep(turn * 0.008)
        task.cancel()
        try:
            machine = await task
        except asyncio.CancelledError:
            assert not _processes.is_alive(_records.Record.load(record.id).first)
        else:
            await machine.close()
            break
    machine = await LocalMachine.connect(record.id, config)
    assert await machine.read_file("work") == b"precious"
    await machine.close()


async def test_a_session_whose_sandbox_was_killed_publishes_what_is_in_it(tmp_path, helpers):
    remote = make_remote(tmp_path / "remote.git", commits=2)
    gm = AsyncGitMachine("local", repository=f"file://{remote}", session="feature")
    await gm.start()
    record = _records.Record.load(gm.machine.id)
    await gm.write_file("new.txt", "work")
    await gm.run("touch .git/index.lock")
    await kill(record, helpers)
    with pytest.raises(MachineLostError):
        await gm.run("true")
    assert (await gm.stop()).pushed
    assert show(remote, "feature:new.txt") == "work"
    assert helpers.leftovers(record) == []


async def test_what_is_in_a_sandbox_that_died_with_its_client_is_published_when_it_is_collected(tmp_path, helpers):
    remote = make_remote(tmp_path / "remote.git", commits=2)
    plan = {"repository": f"file://{remote}", "steps": [["write", "new.txt", "work"], ["die"]]}
    await asyncio.to_thread(crash, plan)
    (record,) = _records.all_records()
    await kill(record, helpers)
    (found,) = await collect_garbage()
    assert found.ok, found.done
    assert show(remote, "feature:new.txt") == "work"
    assert helpers.leftovers(record) == []


async def test_a_machine_that_ends_while_it_is_connected_to_is_started_again(isolation, monkeypatch, helpers):
    config = LocalConfig(isolation=isolation)
    machine = LocalMachine(config)
    await machine.start()
    await machine.write_file("work", b"precious")
    record, connected, ended = machine._record, LocalMachine._connected, []

    async def ending(self):
        if not ended:
            ended.append(os.kill(record.first[0], signal.SIGKILL))
            raise MachineLostError("it closed the connection")
        return await connected(self)

    monkeypatch.setattr(LocalMachine, "_connected", ending)
    again = await LocalMachine.connect(record.id, config)
    assert await again.read_file("work") == b"precious"
    await machine.close()
    await again.stop()
    assert helpers.leftovers(record) == []
