"""The E2B machine's own methods, beside those of the contract. Time budget: 40 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import (
    AuthenticationError,
    Capability,
    ExecRequest,
    MachineError,
    MachineFileNotFoundError,
    MachineIsADirectoryError,
    MachineLostError,
    MachineNotADirectoryError,
    MachineState,
    UnsupportedOperation,
)
from gitmachine.execution import TerminalSize
from gitmachine_e2b import E2BMachine, E2BNetwork
from gitmachine_e2b.machine import find, inventory
from providers.e2b.conftest import config_for, eventually, sh


async def test_a_sandbox_is_made_as_the_configuration_says(emulator):
    config = config_for(
        emulator,
        timeout=120,
        envs={"GLOBAL": "g"},
        metadata={"team": "a&b"},
        allow_internet_access=False,
        network=E2BNetwork(allow_out=["1.1.1.1"], deny_out="0.0.0.0/0"),
        auto_pause=True,
        auto_resume=False,
        user="root",
    )
    machine = E2BMachine(config)
    machine.label = "session-key"
    await machine.start()
    try:
        create = next(record for record in emulator.requests if record.path == "/sandboxes")
        body = create.json
        birth = body["metadata"].pop("gitmachine-birth")
        assert birth.isalnum()
        assert body == {
            "templateID": "base",
            "timeout": 120,
            "secure": True,
            "metadata": {"team": "a&b", "gitmachine": "session-key"},
            "envVars": {"GLOBAL": "g"},
            "autoPause": True,
            "autoResume": {"enabled": False},
            "allow_internet_access": False,
            "network": {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]},
        }
        result = await sh(machine, "echo $GLOBAL; id -un")
        assert result.stdout == "g\nroot\n"
        info = await machine.get_info()
        assert info.allow_internet_access is False
        assert info.lifecycle.on_timeout == "pause"
    finally:
        await machine.stop()


async def test_what_is_not_set_is_not_sent(emulator, machine):
    body = next(record for record in emulator.requests if record.path == "/sandboxes").json
    assert set(body) == {"templateID", "timeout", "secure", "metadata", "envVars"}


async def test_a_start_makes_no_more_requests_than_needed(emulator, machine):
    assert [(record.method, record.path) for record in emulator.requests] == [
        ("POST", "/sandboxes"),
        ("POST", "/process.Process/Start"),
    ]
    emulator.requests.clear()
    await machine.execute(ExecRequest(argv=["true"]))
    await machine.execute(ExecRequest(argv=["cat"], stdin=b"small"))
    assert [record.path for record in emulator.requests] == ["/process.Process/Start"] * 2
    assert all("connect-timeout-ms" not in record.headers for record in emulator.requests)


async def test_a_machine_knows_its_sandbox(machine):
    assert machine.sandbox_id == machine.id
    assert machine.workdir == "/home/user"
    assert await machine.is_running()
    info = await machine.get_info()
    assert (info.id, info.state) == (machine.id, "running")
    assert isinstance(await machine.get_metrics(), tuple)
    await machine.set_network(E2BNetwork(allow_out=["8.8.8.8"], deny_out=["0.0.0.0/0"], allow_public_traffic=True))
    assert (await machine.get_info()).network["allowOut"] == ["8.8.8.8"]


async def test_directories_are_made_looked_for_and_removed(machine):
    assert await machine.make_dir("a/b")
    assert not await machine.make_dir("a/b")
    assert await machine.exists("a")
    await machine.remove("a")
    await machine.remove("a")
    assert not await machine.exists("a")
    await machine.write_file("\udcff", b"x")
    assert await machine.exists("\udcff")
    assert not await machine.exists("\udcfe")


async def test_files_that_say_that_they_are_empty_are_read(machine):
    assert b"Linux" in await machine.read_file("/proc/version")
    with pytest.raises(MachineError):
        await machine.read_file("/dev/zero", max_bytes=1000)


async def test_large_files_go_in_as_one_piece(emulator, machine):
    data = bytes(range(256)) * 4096
    emulator.requests.clear()
    await machine.write_file("large", data)
    assert [record.path for record in emulator.requests] == ["/files", "/process.Process/Start"]
    assert emulator.requests[0].body_bytes == len(data)
    assert await machine.read_file("large") == data
    assert await machine.list_files() == sorted([*await machine.list_files()])
    assert [name for name in await machine.list_files() if "gitmachine" in name] == []


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_write_that_fails_leaves_nothing(machine, size):
    await machine.make_dir("d")
    await machine.write_file("file", b"x")
    for path, expected in (("d", MachineIsADirectoryError), ("file/below", MachineNotADirectoryError)):
        with pytest.raises(expected) as info:
            await machine.write_file(path, b"y" * size)
        assert machine.id == info.value.machine_id
    names = set(await machine.list_files())
    assert names >= {"d", "file"}
    assert not [name for name in names if "gitmachine" in name]


async def test_a_large_input_goes_in_as_a_file(emulator, machine):
    data = bytes(range(256)) * 1000
    emulator.requests.clear()
    result = await machine.execute(ExecRequest(argv=["cat"], stdin=data))
    assert result.stdout_bytes == data
    assert [record.path for record in emulator.requests] == ["/files", "/process.Process/Start"]
    assert (await sh(machine, "ls -a /tmp | grep -c gitmachine")).stdout == "0\n"


async def test_an_input_with_an_odd_user_and_directory(machine):
    await sh(machine, "mkdir \"$(printf '\\377')\"")
    result = await machine.execute(ExecRequest(argv=["pwd"], cwd="\udcff"))
    assert result.stdout_bytes == b"/home/user/\xff\n"
    with pytest.raises(MachineFileNotFoundError):
        await machine.execute(ExecRequest(argv=["pwd"], cwd="\udcfe"))
    with pytest.raises(MachineNotADirectoryError):
        await machine.execute(ExecRequest(argv=["pwd"], cwd="/etc/passwd"))
    with pytest.raises(MachineError, match="no user 'nobody-here'"):
        await machine.execute(ExecRequest(argv=["pwd"], user="nobody-here"))


async def test_a_command_has_no_time_limit_unless_asked(emulator, machine):
    await sh(machine, "true", timeout=50)
    assert all("connect-timeout-ms" not in record.headers for record in emulator.requests)


async def test_a_terminal_is_one(machine):
    process = await machine.spawn(
        ExecRequest(shell="stty size; echo $TERM", terminal=TerminalSize(columns=90, rows=20))
    )
    output = b"".join([piece async for piece in process.stdout])
    assert output == b"20 90\r\nxterm-256color\r\n"
    assert await process.wait() == 0
    plain = await machine.spawn(ExecRequest(shell="cat", open_stdin=True))
    with pytest.raises(UnsupportedOperation):
        await plain.resize(TerminalSize())
    await plain.kill()


async def test_what_a_command_leaves_behind_hinders_nobody(emulator, machine):
    for _ in range(3):
        result = await sh(machine, "( while :; do echo noise; sleep 0.01; done ) & echo over")
        assert result.stdout.startswith(("over\n", "noise\n"))
    assert (await sh(machine, "echo fine")).stdout == "fine\n"
    await machine.terminate_processes()
    await eventually(lambda: not any(process.following for process in machine._link().processes), "the streams end")


async def test_ports_are_reached_by_a_name_of_their_own(emulator, machine):
    assert await machine.get_host(3000) == "localhost:3000"
    elsewhere = E2BMachine(config_for(emulator, debug=False))
    elsewhere._sandbox = machine._sandbox
    host = await elsewhere.get_host(3000)
    assert host == f"3000-{machine.id}.e2b.app"
    assert host.url == f"https://3000-{machine.id}.e2b.app"
    with pytest.raises(MachineError):
        await machine.get_host(0)


async def test_an_older_daemon_can_do_less(emulator):
    machine = E2BMachine(config_for(emulator, template="envd:0.4.2"))
    await machine.start()
    try:
        assert not {Capability.STDIN_EOF, Capability.SNAPSHOT, Capability.FORK} & machine.capabilities
        assert Capability.SPAWN in machine.capabilities
        result = await machine.execute(ExecRequest(argv=["cat"], stdin=b"x" * 100_000))
        assert len(result.stdout_bytes) == 100_000

        async def lines():
            yield b"one\n"
            yield b"two\n"

        assert (await machine.execute(ExecRequest(argv=["cat"], stdin=lines()))).stdout == "one\ntwo\n"
        await machine.write_file("large", b"y" * 100_000)
        assert len(await machine.read_file("large")) == 100_000
    finally:
        await machine.stop()


@pytest.mark.parametrize("version", ["0.2.9", "0.3.9"])
async def test_a_daemon_without_a_default_user_works(emulator, version):
    machine = E2BMachine(config_for(emulator, template=f"envd:{version}"))
    await machine.start()
    try:
        assert (await sh(machine, "id -un; cat")).stdout == "user\n"
        await machine.write_file("f", b"x" * 100_000)
        assert len(await machine.read_file("f")) == 100_000
    finally:
        await machine.stop()


async def test_labels_are_found_and_listed(emulator):
    machines = []
    try:
        for label in ("one & only", "two=2", None):
            machine = E2BMachine(config_for(emulator))
            machine.label = label
            await machine.start()
            machines.append(machine)
        config = config_for(emulator)
        assert await find("one & only", config) == machines[0].id
        assert await find("nobody", config) is None
        await machines[1].pause()
        assert await inventory(config) == {machines[0].id: "one & only", machines[1].id: "two=2"}
    finally:
        for machine in machines:
            await machine.stop()


async def test_two_machines_at_once_are_two(emulator):
    machines = [E2BMachine(config_for(emulator)) for _ in range(2)]
    await asyncio.gather(*(machine.start() for machine in machines))
    try:
        await asyncio.gather(*(machine.write_file("who", str(n)) for n, machine in enumerate(machines)))
        found = await asyncio.gather(*(sh(machine, "cat who") for machine in machines))
        assert [result.stdout for result in found] == ["0", "1"]
    finally:
        await asyncio.gather(*(machine.stop() for machine in machines))


async def test_a_fork_has_a_label_and_processes_of_its_own_and_leaves_nothing(emulator):
    machine = E2BMachine(config_for(emulator))
    machine.label = "original"
    await machine.start()
    try:
        await machine.write_file("f", b"both")
        copy = await machine.fork(label="copy")
        try:
            assert copy.label == "copy"
            assert await copy.read_file("f") == b"both"
            config = config_for(emulator)
            assert await find("original", config) == machine.id
            assert await find("copy", config) == copy.id
            assert await machine.snapshots() == []
        finally:
            taken_over = await E2BMachine.connect(copy.id, config_for(emulator))
            await copy.close()
            await taken_over.stop()
        assert await machine._link().api.snapshots(machine.id) == ()
    finally:
        await machine.stop()


async def test_a_fork_that_fails_leaves_nothing(emulator, machine):
    before = set(emulator.sandbox_ids)
    emulator.faults.add("status", path="^/sandboxes$", method="POST", status=500, when="after")
    with pytest.raises(MachineError):
        await machine.fork()
    assert set(emulator.sandbox_ids) == before
    assert await machine._link().api.snapshots(machine.id) == ()


async def test_without_a_key_nothing_is_asked(emulator, monkeypatch):
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    machine = E2BMachine(config_for(emulator, api_key=None))
    with pytest.raises(AuthenticationError, match="E2B_API_KEY"):
        await machine.start()
    assert emulator.requests == []
    assert machine.state is MachineState.IDLE


async def test_a_sandbox_that_does_not_exist_cannot_be_taken_over(emulator):
    with pytest.raises(MachineLostError, match="inobody") as info:
        await E2BMachine.connect("inobody", config_for(emulator))
    assert info.value.machine_id == "inobody"


async def test_a_machine_works_in_one_loop_after_another(emulator):
    machine = E2BMachine(config_for(emulator))

    def step(work):
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(work)
        finally:
            loop.close()

    async def begin():
        await machine.start()
        await machine.close()
        return (await sh(machine, "echo one")).stdout, await machine.close()

    async def end():
        output = (await sh(machine, "echo two")).stdout
        await machine.stop()
        return output

    assert (await asyncio.to_thread(step, begin()))[0] == "one\n"
    assert await asyncio.to_thread(step, end()) == "two\n"
