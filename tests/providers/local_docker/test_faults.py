"""What others do to a container or an engine while we use it: an error of its own, in time, never a wait.

Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from gitmachine import (
    ExecRequest,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
    MachineUnreachableError,
)
from gitmachine.errors import MachineFileError
from gitmachine_local_docker import DockerConfig, DockerMachine, _engine, connect
from gitmachine_local_docker._errors import advice
from gitmachine_local_docker.machine import find, inventory
from support.docker import engine_of_its_own

WAIT = "echo on; echo x > begun; while :; do sleep 1; done"


@contextlib.asynccontextmanager
async def running(making, machine, *, live=False):
    """Have a command running; give the task that waits for it. With live input it takes the plain way."""
    request = ExecRequest(shell=WAIT)

    async def plain():
        process = await machine.spawn(ExecRequest(shell=WAIT, open_stdin=True))
        async for _ in process.stdout:
            pass
        return await process.wait()

    task = asyncio.ensure_future(plain() if live else machine.execute(request))
    try:
        await making.eventually(lambda: begun(machine), "the command begins")
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=60)


async def begun(machine):
    return "begun" in await machine.list_files()


async def outcome(task):
    await asyncio.wait([task], timeout=60)
    assert task.done(), "whoever waits for the command was not told in a minute"
    return task.exception()


@pytest.mark.requires("docker")
@pytest.mark.parametrize("live", [False, True], ids=["warm", "plain"])
@pytest.mark.parametrize(
    ("verb", "said"), [(["kill"], "somebody killed it"), (["rm", "--force"], "somebody removed it")], ids=["kill", "rm"]
)
async def test_a_container_that_is_ended_by_somebody_else_is_lost(verb, said, live, making, docker):
    async with making.running(image=docker.busybox) as machine:
        async with running(making, machine, live=live) as task:
            docker.docker(*verb, machine.id)
            error = await outcome(task)
        assert isinstance(error, MachineLostError), error
        assert said in str(error)
        assert error.machine_id == machine.id
        for call in (machine.list_files(), machine.write_file("x", b""), machine.spawn(ExecRequest(argv=["true"]))):
            with pytest.raises(MachineLostError):
                await asyncio.wait_for(call, 60)


@pytest.mark.requires("docker")
async def test_a_container_that_runs_out_of_memory_as_a_whole_says_so(making, docker):
    async with making.running(image=docker.busybox, memory="16m") as machine:
        result = await making.sh(machine, "tail /dev/zero; echo $?")
        assert result.stdout == "137\n"


@pytest.mark.requires("docker")
async def test_a_container_that_is_paused_by_somebody_else_goes_on_when_it_is_continued(making, docker):
    async with making.running(image=docker.busybox) as machine:
        await making.sh(machine, "true")
        await making.pause(machine.id)
        # The warm shell stands still with the container; a command by an exec of its own is refused.
        with pytest.raises(InvalidStateError, match=r"paused by somebody else.*docker unpause"):
            await asyncio.wait_for(machine.spawn(ExecRequest(argv=["cat"], open_stdin=True)), 60)
        command = asyncio.ensure_future(making.sh(machine, "echo on"))
        docker.docker("unpause", machine.id)
        assert (await asyncio.wait_for(command, 60)).stdout == "on\n"
        await making.pause(machine.id)
        await machine.pause()
        docker.docker("unpause", machine.id)
        await machine.resume()
        assert (await making.sh(machine, "echo on")).stdout == "on\n"


@pytest.mark.requires("docker")
async def test_a_paused_container_of_somebody_else_is_stopped(making, docker):
    async with making.running(image=docker.busybox) as machine:
        await making.sh(machine, "true")
        await making.pause(machine.id)


@pytest.mark.requires("docker")
async def test_a_shell_that_a_command_kills_is_an_error_and_the_next_command_works(making, docker):
    async with making.running(image=docker.busybox) as machine:
        with pytest.raises(MachineError, match="the shell that ran the command was killed") as caught:
            await making.sh(machine, "kill -9 $PPID; sleep 100")
        assert not isinstance(caught.value, MachineLostError)
        assert (await making.sh(machine, "echo on")).stdout == "on\n"


@pytest.mark.requires("docker")
async def test_a_full_disk_is_an_error_of_the_file_and_the_old_one_stays(making, docker):
    tmpfs = {"HostConfig": {"Tmpfs": {"/home/user": "size=1m"}}}
    async with making.running(image=docker.busybox, extra=tmpfs) as machine:
        await machine.write_file("file", b"old")
        with pytest.raises(MachineFileError) as caught:
            await machine.write_file("file", b"x" * (2 << 20))
        assert caught.value.errno == errno.ENOSPC
        assert await machine.read_file("file") == b"old"
        assert await machine.list_files() == ["file"]


async def test_an_engine_that_is_not_there_is_said_at_once(tmp_path):
    config = DockerConfig(docker_host=f"unix://{tmp_path}/no.sock")
    with pytest.raises(MachineStartError, match=r"not running or cannot be reached: .*: start it"):
        await DockerMachine(config).start()
    for call in (connect("x", config), find("x", config), inventory(config)):
        with pytest.raises(MachineUnreachableError):
            await call
    with pytest.raises(MachineStartError, match="refused"):
        await DockerMachine(DockerConfig(docker_host="tcp://127.0.0.1:1")).start()


@pytest.mark.requires("root")
async def test_a_socket_that_refuses_us_is_said(open_path):
    path = open_path / "d.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        machine = DockerMachine(DockerConfig(docker_host=f"unix://{path}"))
        os.seteuid(65534)
        try:
            with pytest.raises(MachineStartError, match=r"permission denied on .*d\.sock: join the group"):
                await machine.start()
        finally:
            os.seteuid(0)


async def test_an_engine_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(_engine, "CALL_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = DockerConfig(docker_host=f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(MachineStartError, match="does not answer"):
            await asyncio.wait_for(DockerMachine(config).start(), 60)
        with pytest.raises(MachineUnreachableError, match="does not answer"):
            await asyncio.wait_for(connect("x", config), 60)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("write /var/lib/docker/x: no space left on device", "docker system prune"),
        ("driver failed programming: Bind for 127.0.0.1:80 failed: port is already allocated", "another container"),
        ("Bind for 0.0.0.0:80: listen tcp: bind: address already in use", "another container"),
        ("--storage-opt is supported only for overlay over xfs with 'pquota' mount option.", "`disk`"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "`volumes`"),
        ("Minimum memory limit allowed is 6MB", "6m"),
        ("no matching manifest for linux/arm64 in the manifest list entries", "`platform`"),
        ("all is well", ""),
    ],
)
def test_what_the_engine_says_gets_advice(message, said):
    assert said in advice(message)
    assert bool(advice(message)) == bool(said)


def _own_config(own):
    return DockerConfig(image=own.busybox, pull="never", git="unchecked", network="none", docker_host=own.url)


@pytest.mark.requires("own-docker")
@pytest.mark.parametrize("live", [False, True], ids=["warm", "plain"])
async def test_an_engine_that_dies_and_comes_back_is_an_error_in_time_and_the_files_are_there(live, making):
    with engine_of_its_own() as own:
        machine = DockerMachine(_own_config(own))
        await machine.start()
        try:
            await machine.write_file("work", b"precious")
            async with running(making, machine, live=live) as task:
                own.kill()
                error = await outcome(task)
            assert isinstance(error, MachineUnreachableError), error
            with pytest.raises(MachineUnreachableError, match="not running or cannot be reached"):
                await asyncio.wait_for(machine.read_file("work"), 60)
            own._kill_tasks()
            await asyncio.to_thread(own.start)
            # Without live-restore its containers have ended; they are lost to who used them, and can be taken over.
            with pytest.raises(MachineLostError):
                await asyncio.wait_for(machine.read_file("work"), 60)
            again = await connect(machine.id, machine.config)
            try:
                assert await again.read_file("work") == b"precious"
            finally:
                await again.close()
        finally:
            await machine.stop()
        assert own.containers() == []


@pytest.mark.requires("own-docker")
async def test_a_container_lives_through_its_engines_death_where_the_engine_allows_it(making):
    with engine_of_its_own(settings={"live-restore": True}) as own:
        machine = DockerMachine(_own_config(own))
        await machine.start()
        try:
            await making.sh(machine, "( while :; do echo >> beats; sleep 1; done ) >/dev/null 2>&1 &")
            async with running(making, machine) as task:
                own.kill()
                assert isinstance(await outcome(task), MachineUnreachableError)
            await asyncio.to_thread(own.start)
            seen = len(await machine.read_file("beats"))

            async def more():
                return len(await machine.read_file("beats")) > seen

            await making.eventually(more, "the container goes on")
        finally:
            await machine.stop()
        assert own.containers() == []
