"""A cut connection: an error in bounded time, nothing run twice, nothing lost, and the next call connects again.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import attrs
import pytest

from gitmachine import (
    AsyncGitMachine,
    ExecRequest,
    MachineError,
    MachineState,
    MachineUnreachableError,
)
from gitmachine.machines.managed import ManagedMachine
from gitmachine_ssh import SSHMachine
from support.namespaces import linked, namespace
from support.repos import git, make_remote, show

pytestmark = pytest.mark.requires("sshd", "root")

KEEPALIVE_SECONDS = 0.5
LIMIT_SECONDS = 4 * KEEPALIVE_SECONDS + 20
"""Within the keepalive's limit, plus what a loaded machine may add."""
NEVER = "until [ -e never ]; do sleep 0.1; done"


@pytest.fixture
def server(helpers):
    """A server of the test's own, to be killed."""
    with helpers.serving() as server:
        yield server


@pytest.fixture
async def machine(server, tmp_path, helpers):
    """A running machine on it."""
    config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
    machine = SSHMachine(attrs.evolve(config, keepalive=KEEPALIVE_SECONDS))
    await machine.start()
    try:
        yield machine
    finally:
        await machine.stop()
    assert list(Path(machine.config.base_dir).iterdir()) == []


@pytest.fixture
def wire(helpers):
    """A network that can be cut, with a server at its other end."""
    with namespace() as far, linked(far) as link, helpers.serving(address=link.there, namespace=far.name) as server:
        yield link, server


@pytest.fixture
async def distant(wire, tmp_path, helpers):
    """A running machine at the other end."""
    link, server = wire
    config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
    machine = SSHMachine(attrs.evolve(config, keepalive=KEEPALIVE_SECONDS, connect_timeout=2.0))
    await machine.start()
    try:
        yield machine
    finally:
        link.allow()
        link.up()
        await machine.stop()
    assert list(Path(machine.config.base_dir).iterdir()) == []


async def started(machine, helpers, name="started"):
    """Wait until a command has made a file; looks at the disk, not through the machine."""
    await helpers.eventually(Path(machine.workdir, name).exists, f"{name} in the machine")


async def test_a_cut_in_the_middle_of_output_is_an_error_and_the_machine_goes_on(machine, server, helpers):
    pieces = []
    script = f"echo x >> runs; echo out; echo started > started; {NEVER}"
    running = asyncio.ensure_future(machine.execute(ExecRequest(shell=script, on_stdout=pieces.append)))
    await started(machine, helpers)
    server.kill_sessions()
    with pytest.raises(MachineUnreachableError, match=r"was cut.*next call reconnects") as caught:
        await asyncio.wait_for(running, LIMIT_SECONDS)
    assert "may have run" in "".join(caught.value.__notes__)
    assert caught.value.machine_id == machine.id
    assert machine.state is MachineState.RUNNING
    assert (await helpers.sh(machine, "cat runs")).stdout == "x\n"


async def test_a_cut_does_not_make_the_guard_write_the_machine_off(machine, server, helpers):
    managed = ManagedMachine(machine)
    running = asyncio.ensure_future(managed.execute(ExecRequest(shell=f"echo x > started; {NEVER}")))
    await started(machine, helpers)
    server.kill_sessions()
    with pytest.raises(MachineUnreachableError):
        await asyncio.wait_for(running, LIMIT_SECONDS)
    assert managed.lost is None
    assert (await helpers.sh(managed, "cat started")).stdout == "x\n"


async def test_the_streams_of_a_live_process_end_with_its_connection(machine, server, helpers):
    process = await machine.spawn(ExecRequest(shell=f"echo x > started; {NEVER}", open_stdin=True))
    await started(machine, helpers)
    server.kill_sessions()
    assert [data async for data in process.stdout] == []
    with pytest.raises(MachineUnreachableError):
        await process.wait()
    with pytest.raises(BrokenPipeError):
        await process.stdin.write(b"x")
    await process.kill()


async def test_what_ran_on_a_cut_connection_is_ended_before_anything_new_runs_but_background_children_live(
    machine, server, helpers
):
    await helpers.sh(machine, "while :; do echo x >> kept; sleep 0.05; done >/dev/null 2>&1 &")
    beat = "echo started > started; while :; do echo x >> beat; sleep 0.05; done"
    running = asyncio.ensure_future(machine.execute(ExecRequest(shell=beat)))
    await started(machine, helpers)
    server.kill_sessions()
    with pytest.raises(MachineUnreachableError):
        await asyncio.wait_for(running, LIMIT_SECONDS)
    # It may write once more, while it is being killed.
    size = len((await helpers.sh(machine, "cat beat")).stdout)
    kept = len((await helpers.sh(machine, "cat kept")).stdout)
    await helpers.sh(machine, "sleep 0.5")
    assert len((await helpers.sh(machine, "cat beat")).stdout) <= size + 2
    assert len((await helpers.sh(machine, "cat kept")).stdout) > kept


async def test_a_restarted_server_is_connected_to_again(machine, server, helpers):
    await machine.write_file("file", b"kept")
    server.kill()
    await helpers.eventually(lambda: _unreachable(machine))
    with pytest.raises(MachineUnreachableError, match="connection refused"):
        await machine.execute(ExecRequest(argv=["true"]))
    with pytest.raises(MachineUnreachableError):
        await machine.stop()
    assert machine.id is not None
    server.start()
    assert await machine.read_file("file") == b"kept"
    assert (await helpers.sh(machine, "cat file")).stdout == "kept"


async def test_a_write_that_is_cut_leaves_the_old_file(machine, server, helpers):
    await machine.write_file("file", b"old")
    writing = asyncio.ensure_future(machine.write_file("file", b"x" * (64 << 20)))
    folder = Path(machine.workdir)
    await helpers.eventually(lambda: any(path.name.startswith(".gitmachine-") for path in folder.iterdir()))
    server.kill_sessions()
    with pytest.raises(MachineUnreachableError):
        await asyncio.wait_for(writing, LIMIT_SECONDS)
    assert await machine.read_file("file") == b"old"


async def test_a_port_keeps_its_address_over_a_new_connection(machine, server, helpers):
    async def answer(_reader, writer):
        writer.write(b"hello")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        host = await machine.get_host(port)
        assert host != f"127.0.0.1:{port}"
        assert await _fetch(host) == b"hello"
        assert await machine.get_host(port) == host
        server.kill_sessions()

        async def again():
            return (await helpers.sh(machine, "echo on")).stdout == "on\n"

        await helpers.eventually(lambda: _quiet(again), "a new connection")
        assert await machine.get_host(port) == host
        assert await _fetch(host) == b"hello"


async def _unreachable(machine):
    try:
        await machine.read_file("file")
    except MachineUnreachableError:
        return True
    return False


async def _quiet(ask):
    try:
        return await ask()
    except MachineUnreachableError:
        return False


async def _fetch(host):
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_half_open_connection_is_noticed_within_the_keepalive_and_used_again_when_it_works(
    distant, wire, helpers
):
    link, _server = wire
    running = asyncio.ensure_future(distant.execute(ExecRequest(shell=f"echo x > started; {NEVER}")))
    await started(distant, helpers)
    began = time.monotonic()
    link.drop()
    with pytest.raises(MachineUnreachableError, match="keepalive"):
        await asyncio.wait_for(running, LIMIT_SECONDS)
    assert time.monotonic() - began < LIMIT_SECONDS
    with pytest.raises(MachineUnreachableError, match="cannot connect"):
        await asyncio.wait_for(distant.read_file("started"), LIMIT_SECONDS)
    link.allow()
    assert await distant.read_file("started") == b"x\n"


async def test_a_timeout_on_a_half_open_connection_loses_no_machine(distant, wire, helpers):
    link, _server = wire
    slow = SSHMachine(attrs.evolve(distant.config, keepalive=600.0))
    await slow.start()
    try:
        managed = ManagedMachine(slow)
        running = asyncio.ensure_future(managed.execute(ExecRequest(shell=f"echo x > started; {NEVER}", timeout=2)))
        await started(slow, helpers)
        link.drop()
        with pytest.raises(MachineUnreachableError):
            await asyncio.wait_for(running, 60)
        assert managed.lost is None
        link.allow()
        assert (await helpers.sh(managed, "cat started")).stdout == "x\n"
    finally:
        link.allow()
        await slow.stop()


async def test_a_cut_in_a_run_and_one_in_a_push_lose_nothing_and_stop_works_when_the_link_is_back(
    wire, tmp_path, helpers
):
    link, server = wire
    upstream = make_remote(tmp_path / "upstream")
    config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
    machine = SSHMachine(attrs.evolve(config, keepalive=KEEPALIVE_SECONDS, connect_timeout=2.0))
    gm = AsyncGitMachine(machine, repository=str(upstream), session="cut")
    await gm.start()
    script = f"echo work > work.txt; head -c 30000000 /dev/urandom > big; echo x > ../started; {NEVER}"
    running = asyncio.ensure_future(gm.run(script))
    await helpers.eventually(Path(gm.path).parent.joinpath("started").exists)
    link.down()
    with pytest.raises(MachineUnreachableError):
        await asyncio.wait_for(running, LIMIT_SECONDS)
    with pytest.raises(MachineUnreachableError):
        await asyncio.wait_for(gm.stop(), 2 * LIMIT_SECONDS)
    assert gm.state is MachineState.RUNNING
    link.up()
    stopping = asyncio.ensure_future(gm.stop())
    # The objects travel now: cut again.
    counter = Path(f"/sys/class/net/gmn{link.here.split('.')[2]}/statistics/rx_bytes")
    begun = int(counter.read_text())
    await helpers.eventually(lambda: int(counter.read_text()) > begun + 3_000_000 or stopping.done())
    link.down()
    with pytest.raises(MachineError):
        await asyncio.wait_for(stopping, 3 * LIMIT_SECONDS)
    link.up()
    receipt = await gm.stop()
    assert receipt.pushed
    assert show(upstream, "cut:work.txt") == "work"
    assert git("-C", upstream, "cat-file", "-s", "cut:big") == "30000000"
    assert list(Path(config.base_dir).iterdir()) == []


async def test_more_commands_than_sessions_are_spread_over_connections(tmp_path, helpers):
    with helpers.serving(options={"MaxSessions": "2"}) as server:
        config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
        machine = SSHMachine(config)
        await machine.start()
        try:
            await machine.write_file("file", b"x")
            running = [
                asyncio.ensure_future(helpers.sh(machine, f"echo x > on-{n}; until [ -e go ]; do sleep 0.1; done"))
                for n in range(6)
            ]
            for number in range(6):
                await started(machine, helpers, f"on-{number}")
            await machine.write_file("go", b"")
            assert [(await task).exit_code for task in running] == [0] * 6
        finally:
            await machine.stop()


async def test_a_host_that_gives_no_session_says_so(tmp_path, helpers):
    with helpers.serving(options={"MaxSessions": "0"}) as server:
        config = helpers.configure(server, tmp_path / "known_hosts", base_dir=str(tmp_path / "machines"))
        with pytest.raises(MachineError, match="opens no session"):
            await SSHMachine(config).start()
