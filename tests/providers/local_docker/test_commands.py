"""Commands by an exec of their own, the words of the engine's API, hints, doctor. Time budget: 20 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine import (
    CommandTimeoutError,
    ConfigError,
    ExecRequest,
    ExecResult,
    MachineError,
    MachineFileNotFoundError,
    MachineNotADirectoryError,
    TerminalSize,
    UnsupportedOperation,
)
from gitmachine.machines.channel import WarmPool
from gitmachine_local_docker import DockerConfig
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._hints import hint_for, may_be_memory
from gitmachine_local_docker._words import embedded
from gitmachine_local_docker.doctor import doctor

HOSTILE = (
    "",
    " ",
    "-n",
    "$(touch pwned)",
    "`x`",
    "two\nlines\n",
    "quo'te\"s",
    "grüße",
    "a\udcff\udcfe",
    "back\\slash\\n",
    "%s",
)


@pytest.fixture
def plain(monkeypatch):
    """Have no warm shell."""
    monkeypatch.setattr(WarmPool, "serves", lambda _pool, _request: False)


async def output(process):
    """Read both streams of a process to their end; return them and its exit code."""
    streams = await asyncio.gather(*(collect(stream) for stream in (process.stdout, process.stderr)))
    return (*streams, await process.wait())


async def collect(stream):
    return b"".join([data async for data in stream])


@pytest.mark.requires("docker")
@pytest.mark.parametrize("image", ["debian", "busybox"])
async def test_without_a_warm_shell_everything_is_the_same_but_slower(image, plain, making, docker):
    async with making.running(image=getattr(docker, image), user="user") as machine:
        result = await making.sh(machine, "echo out; echo err >&2; pwd; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n/home/user\n", "err\n")
        argv = ["sh", "-c", 'printf "%s\\0" "$@"', "sh", *HOSTILE]
        result = await machine.execute(ExecRequest(argv=argv, timeout=60))
        assert result.stdout_bytes.split(b"\0")[:-1] == [word.encode("utf-8", "surrogateescape") for word in HOSTILE]
        env = {f"V{number}": word for number, word in enumerate(HOSTILE)}
        names = " ".join(f'"$V{number}"' for number in range(len(HOSTILE)))
        result = await making.sh(machine, f"printf '%s\\0' {names}", env=env)
        assert result.stdout_bytes.split(b"\0")[:-1] == [word.encode("utf-8", "surrogateescape") for word in HOSTILE]
        result = await machine.execute(ExecRequest(argv=["env"], env={"with.dot": "x y", "OPTIND": "abc"}, timeout=60))
        assert {"with.dot=x y", "OPTIND=abc"} <= set(result.stdout.splitlines())
        assert "pwned" not in await machine.list_files()
        with pytest.raises(MachineFileNotFoundError, match="no-such-place"):
            await making.sh(machine, "touch ran", cwd="no-such-place")
        await machine.write_file("file", b"x")
        with pytest.raises(MachineNotADirectoryError):
            await making.sh(machine, "touch ran", cwd="file")
        assert (await machine.execute(ExecRequest(argv=["no-such-program"], timeout=60))).exit_code == 127
        await machine.write_file("big", b"y" * 3_000_000)
        assert len(await machine.read_file("big")) == 3_000_000


@pytest.mark.requires("docker")
async def test_a_timeout_ends_a_command_of_another_user_with_its_whole_tree(making, docker):
    async with making.running(image=docker.busybox, user="user") as machine:
        script = "setsid env -i sh -c 'while :; do sleep 1; done' & echo on; while :; do sleep 1; done"
        with pytest.raises(CommandTimeoutError) as caught:
            await machine.execute(ExecRequest(shell=script, user="root", cwd="/", timeout=4))
        assert caught.value.result.stdout == "on\n"
        listed = (await making.sh(machine, "ps -o user,args")).stdout
        assert "do sleep 1" not in listed, listed


@pytest.mark.requires("docker")
async def test_a_terminal_changes_its_size_and_ends_with_a_hangup(making, docker):
    async with making.running() as machine:
        script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done"
        process = await machine.spawn(ExecRequest(shell=script, terminal=TerminalSize(91, 33)))
        seen = await anext(process.stdout)
        assert seen == b"33 91\r\n"
        await process.resize(TerminalSize(70, 20))
        while b"20 70\r\n" not in seen:
            seen += await asyncio.wait_for(anext(process.stdout), 60)
        await process.kill()
        assert await process.wait() == 137
        await process.resize(TerminalSize())  # no error when it is over
        other = await machine.spawn(ExecRequest(argv=["cat"], open_stdin=True))
        with pytest.raises(UnsupportedOperation, match="no terminal"):
            await other.resize(TerminalSize())
        await other.stdin.close()
        assert await output(other) == (b"", b"", 0)
        await other.kill()


@pytest.mark.requires("docker")
@pytest.mark.parametrize("moment", ["create_exec", "start_exec"])
async def test_a_spawn_that_is_cancelled_runs_nothing(moment, making, docker, monkeypatch):
    async with making.running(image=docker.busybox) as machine:
        reached = asyncio.Event()
        original = getattr(Engine, moment)

        async def noticed(self, *arguments, **keywords):
            done = await original(self, *arguments, **keywords)
            reached.set()
            return done

        monkeypatch.setattr(Engine, moment, noticed)
        spawning = asyncio.ensure_future(machine.spawn(ExecRequest(argv=["sleep", "4711"], open_stdin=True)))
        await asyncio.wait([spawning, asyncio.ensure_future(reached.wait())], return_when=asyncio.FIRST_COMPLETED)
        spawning.cancel()
        await asyncio.wait([spawning])
        if not spawning.cancelled():  # it was faster
            await spawning.result().kill()
        assert "4711" not in (await making.sh(machine, "ps -o args | grep '[4]711'")).stdout


@pytest.mark.requires("docker")
async def test_input_that_comes_late_is_refused(making, docker):
    async with making.running(image=docker.busybox) as machine:
        process = await machine.spawn(ExecRequest(shell="read line; echo got $line", open_stdin=True))
        await process.stdin.write(b"one\n")
        assert await output(process) == (b"got one\n", b"", 0)
        with pytest.raises(BrokenPipeError):
            await process.stdin.write(b"two\n")
        await process.stdin.close()
        without = await machine.spawn(ExecRequest(argv=["true"], user="user"))
        with pytest.raises(BrokenPipeError, match="open_stdin"):
            await without.stdin.write(b"x")
        assert (await output(without))[2] == 0


def test_what_needs_no_care_stays_out_of_the_command_line():
    argv, env = embedded("shift\n", ["own"], ["cmd", "arg"], {"SECRET": "canary"})
    assert argv == ["sh", "-c", 'shift\nexec "$@"\n', "sh", "own", "cmd", "arg"]
    assert env == ["SECRET=canary"]


def test_names_that_a_shell_would_drop_go_through_env():
    argv, env = embedded("", [], ["cmd"], {"a.b": "1", "PPID": "2", "C": "3"})
    assert argv[4:] == ["env", "--", "a.b=1", "PPID=2", "cmd"]
    assert env == ["C=3"]
    with pytest.raises(ConfigError, match="cannot be given"):
        embedded("", [], ["cmd"], {"\udcff": "x"})


def _failed(stderr, code=1):
    return ExecResult(exit_code=code, stderr_bytes=stderr)


@pytest.mark.parametrize(
    ("options", "stderr", "said"),
    [
        ({"network": "none"}, b"fatal: Could not resolve host: example.org", 'network = "bridge"'),
        ({"network": "bridge"}, b"fatal: Could not resolve host: example.org", None),
        ({"read_only": True}, b"touch: /usr/x: Read-only file system", "read_only = true"),
        ({"pids": 9}, b"sh: can't fork: Resource temporarily unavailable", "9 processes"),
        ({}, b"sudo: effective uid is not 0, is sudo installed setuid root?", 'user = "root"'),
        ({}, b"segmentation fault", None),
    ],
)
def test_hints_fit_what_was_taken_away(options, stderr, said):
    hint = hint_for(_failed(stderr), DockerConfig(**options))
    assert said in hint if said else hint is None
    assert hint_for(_failed(stderr, 0), DockerConfig(**options)) is None


def test_only_a_kill_may_be_for_want_of_memory():
    assert may_be_memory(_failed(b"", 137))
    assert may_be_memory(_failed(b"make: *** [all] Killed", 2))
    assert not may_be_memory(_failed(b"Killed", 0))
    assert not may_be_memory(_failed(b"error", 2))


@pytest.mark.requires("docker")
async def test_doctor_says_what_there_is_and_what_to_do(making, docker):
    checks = await doctor(making.config())
    assert [check.ok for check in checks] == [True] * 4, checks
    assert "warm channel" in checks[2].detail
    assert checks[3].detail.startswith("git version")
    *good, git = await doctor(making.config(image=docker.busybox))
    assert all(check.ok for check in good)
    assert (git.ok, 'git = "install"' in git.fix) == (False, True)


@pytest.mark.requires("docker")
async def test_doctor_finds_what_cannot_work(making, docker, tmp_path):
    (check,) = await doctor(DockerConfig(docker_host=f"unix://{tmp_path}/none"))
    assert (check.ok, "cannot be reached" in check.detail, "start it" in check.fix) == (False, True, True)
    (check,) = await doctor(DockerConfig(context="nowhere"))
    assert "no Docker context 'nowhere'" in check.detail
    missing = docker.name("none")
    assert (await doctor(making.config(image=missing)))[-1].fix.startswith(f"run `docker pull {missing}`")
    waiting = (await doctor(DockerConfig(image=missing)))[-1]
    assert (waiting.ok, "at the first start" in waiting.detail) == (True, True)
    container = (await doctor(making.config(network="no-such-network")))[-1]
    assert (container.ok, "docker network create" in container.fix) == (False, True)


@pytest.mark.requires("docker")
async def test_a_machine_is_used_from_one_loop_after_another(making, docker):
    machine = type("Later", (), {})()

    async def start():
        from gitmachine_local_docker import DockerMachine

        machine.it = DockerMachine(making.config(image=docker.busybox))
        await machine.it.start()
        await machine.it.close()

    async def use():
        result = await machine.it.execute(ExecRequest(argv=["echo", "on"], timeout=60))
        await machine.it.stop()
        return result.stdout

    await asyncio.to_thread(asyncio.run, start())
    assert await asyncio.to_thread(asyncio.run, use()) == "on\n"


@pytest.mark.requires("docker")
async def test_an_image_that_is_no_snapshot_is_left_alone(making, docker):
    async with making.running(image=docker.busybox) as machine:
        with pytest.raises(MachineError, match="no snapshot"):
            await machine.delete_snapshot(docker.debian)
