"""Containers made, found, taken over, copied and removed, on a real engine. Time budget: 40 s."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request

import attrs
import pytest

from gitmachine import (
    ExecRequest,
    InvalidStateError,
    MachineError,
    MachineLostError,
    MachineStartError,
    MachineState,
)
from gitmachine_local_docker import DockerConfig, DockerMachine, connect
from gitmachine_local_docker._create import owner
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker.machine import find, inventory

pytestmark = pytest.mark.requires("docker")


def inspect(docker, container):
    return json.loads(docker.docker("inspect", container).stdout)[0]


async def test_a_container_says_whose_it_is(making, docker):
    machine = DockerMachine(making.config(labels={"team": "blue"}))
    machine.label = f"key-{docker.run}"
    await machine.start()
    try:
        labels = inspect(docker, machine.id)["Config"]["Labels"]
        assert labels["gitmachine.label"] == machine.label
        assert labels["gitmachine.owner"] == owner()
        assert labels["team"] == "blue"
        assert await find(machine.label) == machine.id
        assert (await inventory())[machine.id] == machine.label
    finally:
        await machine.stop()
    assert await find(f"key-{docker.run}") is None


async def test_what_never_ran_is_removed_when_it_is_found(making, docker):
    label = f"gitmachine.label=half-{docker.run}"
    made = docker.docker("create", "--label", label, "--label", "gitmachine.machine=1", docker.busybox, "true")
    assert await find(f"half-{docker.run}") is None
    assert made.stdout.strip() not in docker.containers()


async def test_what_has_ended_is_started_again_with_its_files(making, docker):
    machine = DockerMachine(making.config())
    machine.label = f"ended-{docker.run}"
    await machine.start()
    container = machine.id
    try:
        await machine.write_file("work", b"precious")
        docker.docker("kill", container)
        await machine.close()
        assert await find(f"ended-{docker.run}") == container
        machine = await connect(container, machine.config)
        assert (machine.state, machine.label) == (MachineState.RUNNING, f"ended-{docker.run}")
        assert await machine.read_file("work") == b"precious"
    finally:
        await machine.stop()


async def test_a_machine_is_taken_over_by_its_name_running_or_paused(making, docker):
    name = docker.name()
    async with making.running(name=name, workdir="/work/here", user="user") as machine:
        other = await connect(name, DockerConfig())
        try:
            assert (other.id, other.workdir, other.state) == (machine.id, "/work/here", MachineState.RUNNING)
            assert (await making.sh(other, "id -un; pwd")).stdout == "user\n/work/here\n"
        finally:
            await other.close()
        await machine.pause()
        other = await connect(name)
        try:
            assert other.state is MachineState.PAUSED
            await other.resume()
            assert (await making.sh(other, "echo on")).stdout == "on\n"
        finally:
            await other.close()


async def test_a_name_that_is_taken_is_said(making, docker):
    name = docker.name()
    async with making.running(name=name):
        with pytest.raises(MachineStartError, match="give another `name`"):
            await DockerMachine(making.config(name=name)).start()


async def test_a_container_of_somebody_else_can_be_taken_over(making, docker):
    made = docker.docker("run", "-d", "--init", "--user", "user", docker.debian, "sleep", "1000").stdout.strip()
    machine = await connect(made, DockerConfig(workdir="/home/user/work"))
    try:
        assert (await making.sh(machine, "id -un; pwd; echo $HOME")).stdout == "user\n/home/user/work\n/home/user\n"
    finally:
        await machine.stop()


async def test_stop_does_not_wait_and_leaves_no_volume(making, docker):
    async with making.running(volumes=["/scratch"], image=docker.busybox) as machine:
        await making.sh(machine, "trap '' TERM; sleep 1000 & echo x > /scratch/x")
        (mount,) = inspect(docker, machine.id)["Mounts"]
        began = asyncio.get_running_loop().time()
        await machine.stop()
        assert asyncio.get_running_loop().time() - began < 9
    assert docker.docker("volume", "inspect", mount["Name"], code=None).returncode != 0


@pytest.mark.parametrize("freeze", ["pause", "snapshot", "fork"])
async def test_a_container_is_frozen_as_soon_as_it_has_started_and_goes_on(freeze, making):
    # Its first shell is being opened just then, and an engine in whose middle of that it is frozen never answers again.
    async with making.running() as machine:
        async with asyncio.timeout(60):
            if freeze == "pause":
                await machine.pause()
                await machine.resume()
            elif freeze == "snapshot":
                await machine.delete_snapshot(await machine.snapshot())
            else:
                await (await machine.fork()).stop()
        assert (await making.sh(machine, "echo on")).stdout == "on\n"


@pytest.mark.parametrize("freeze", ["pause", "snapshot"])
async def test_a_container_is_frozen_between_the_starts_of_processes(freeze, making):
    async with making.running() as machine:
        # More at once than there are shells, so that some are opened; and some that need an exec of their own.
        working = [asyncio.ensure_future(making.sh(machine, "sleep 0.2; echo on")) for _ in range(6)]
        spawning = [asyncio.ensure_future(machine.spawn(ExecRequest(argv=["cat"], open_stdin=True))) for _ in range(2)]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(120):
            if freeze == "pause":
                await machine.pause()
                await machine.resume()
            else:
                await machine.delete_snapshot(await machine.snapshot())
            assert [(await work).stdout for work in working] == ["on\n"] * 6
            for process in [await spawn for spawn in spawning]:
                await process.kill()
        assert (await making.sh(machine, "echo on")).stdout == "on\n"


SILENT = [{"Tty": True}, {"Entrypoint": ["sh", "-c", "exec sleep 1000"]}]


@pytest.mark.parametrize("extra", SILENT, ids=["terminal", "another-program"])
async def test_a_container_that_says_nothing_of_itself_is_asked(extra, making):
    async with making.running(extra=extra, user="user", workdir="/work") as machine:
        assert (await making.sh(machine, "id -un; pwd; echo $HOME")).stdout == "user\n/work\n/home/user\n"


async def test_a_container_is_asked_where_nobody_can_listen_to_it(making, docker, monkeypatch):
    async def refused(*_):
        raise ConnectionResetError("on purpose")

    monkeypatch.setattr(Engine, "attach", refused)
    async with making.running(image=docker.busybox) as machine:
        assert (await making.sh(machine, "pwd")).stdout == f"{machine.workdir}\n"


@pytest.mark.parametrize("moment", ["create", "attach", "start", "inspect", "create_exec"])
async def test_a_start_that_is_cancelled_leaves_nothing(moment, making, docker, monkeypatch):
    extra = {} if moment == "attach" else SILENT[0]  # with which the container is asked by all the other ways
    reached = asyncio.Event()
    original = getattr(Engine, moment)

    async def noticed(self, *arguments, **keywords):
        reached.set()
        return await original(self, *arguments, **keywords)

    monkeypatch.setattr(Engine, moment, noticed)
    starting = asyncio.ensure_future(DockerMachine(making.config(image=docker.busybox, extra=extra)).start())
    await reached.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_start_that_fails_half_way_leaves_nothing(making, docker):
    with pytest.raises(MachineStartError, match=r"has no user nobody-has-this-name.*another `user`"):
        async with asyncio.timeout(30):  # the container says at once that it cannot be prepared
            await DockerMachine(making.config(user="nobody-has-this-name")).start()
    with pytest.raises(MachineStartError, match=r"not found.*docker network create"):
        await DockerMachine(making.config(network="no-such-network")).start()
    with pytest.raises(MachineStartError, match="`runtime`"):
        await DockerMachine(making.config(runtime="no-such-runtime")).start()


async def test_an_image_without_a_shell_is_said(making, docker):
    docker.docker("import", "--change", f"LABEL gitmachine.tests.run={docker.run}", "-", f"{docker.name()}:x", data="")
    image = docker.docker("images", "-q", "--filter", f"label=gitmachine.tests.run={docker.run}").stdout.split()[0]
    with pytest.raises(MachineStartError, match="no `sh`"):
        await DockerMachine(making.config(image=image, init=False)).start()


async def test_a_container_has_no_more_than_it_needs(making):
    async with making.running(network="bridge") as machine:
        status = (await making.sh(machine, "cat /proc/self/status")).stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0b0100_1111_1011
        assert fields["NoNewPrivs"].strip() == "1"
        assert fields["Seccomp"].strip() == "2"
        assert (await making.sh(machine, "ls /var/run/docker.sock /run/docker.sock")).exit_code != 0
    async with making.running(user="user") as machine:
        status = (await making.sh(machine, "cat /proc/self/status")).stdout
        assert "CapEff:\t0000000000000000" in status


async def test_limits_hold(making):
    async with making.running(pids=50, memory="64m", cpus=0.5) as machine:
        result = await making.sh(machine, "for i in $(seq 100); do sleep 5 & done; wait")
        assert result.exit_code != 0
        assert "50 processes" in (machine.hint(result) or "")


async def test_running_out_of_memory_is_said(making):
    async with making.running(memory="32m") as machine:
        result = await making.sh(machine, "tail /dev/zero")
        assert result.exit_code == 137
        assert "out of memory (limit 32m)" in (machine.hint(result) or "")
        result = await making.sh(machine, "sh -c 'kill -9 $$'")
        assert result.exit_code == 137
        assert machine.hint(result) is None


async def test_a_missing_network_is_said(making):
    async with making.running() as machine:
        result = await making.sh(machine, "git clone https://example.org/x")
        assert 'network = "bridge"' in (machine.hint(result) or "")


async def test_published_ports_are_reached_on_the_loopback(making, docker):
    serve = "mkdir -p w; echo hello > w/index.html; httpd -p 8000 -h w; httpd -p 8001 -h w"
    async with making.running(image=docker.busybox, network="bridge", ports=["8000"]) as machine:
        await making.sh(machine, serve)
        host = await machine.get_host(8000)
        assert host.startswith("127.0.0.1:")
        for address in (host, await machine.get_host(8001)):
            answer = await asyncio.to_thread(lambda url=address.url: urllib.request.urlopen(url, timeout=60).read())
            assert answer == b"hello\n"
        taken = host.rpartition(":")[2]
        with pytest.raises(MachineStartError, match="another container or program has this port"):
            await DockerMachine(making.config(image=docker.busybox, network="bridge", ports=[f"{taken}:8000"])).start()
    async with making.running(image=docker.busybox) as machine:
        with pytest.raises(MachineError, match="has no network"):
            await machine.get_host(8000)


async def test_a_read_only_root_leaves_the_working_directory(making):
    async with making.running(read_only=True, user="user") as machine:
        await machine.write_file("file", b"x")
        result = await making.sh(machine, "echo y > /tmp/y && cat /tmp/y; pwd; touch /usr/x")
        assert result.stdout == "y\n/home/user\n"
        assert result.exit_code != 0
        assert "read-only (read_only = true)" in (machine.hint(result) or "")


@pytest.mark.parametrize("user", ["1234", "1234:4321", "user", None])
async def test_any_user_has_a_directory_and_a_home(user, making):
    async with making.running(user=user, workdir="/srv/deep/work") as machine:
        result = await making.sh(machine, 'id -u; id -g; cd "$HOME" && touch mine && cd /srv/deep/work && touch mine')
        uid, gid = {"1234": "1234 0", "1234:4321": "1234 4321", "user": "1000 1000", None: "0 0"}[user].split()
        assert (result.exit_code, result.stdout) == (0, f"{uid}\n{gid}\n"), result.stderr


async def test_git_takes_a_mounted_tree_of_anybody(making, docker, tmp_path):
    tmp_path.chmod(0o777)
    async with making.running(volumes=[f"{tmp_path}:/tree"]) as machine:
        await making.sh(machine, "git init -q /tree/repo && echo x > /tree/repo/file")
        assert (tmp_path / "repo/file").owner() == "root"
    async with making.running(volumes=[f"{tmp_path}:/tree"], user="user") as machine:
        result = await making.sh(machine, "git -C /tree/repo status --short")
        assert (result.exit_code, result.stdout) == (0, "?? file\n"), result.stderr
        with pytest.raises(MachineError):
            await machine.write_file("/tree/repo/file", b"y")
    assert (tmp_path / "repo/file").read_text() == "x\n"


async def test_a_file_that_is_mounted_by_itself_can_be_written(making):
    async with making.running() as machine:
        await machine.write_file("/etc/hosts", "127.0.0.1 localhost mine\n")
        assert (await making.sh(machine, "cat /etc/hosts")).stdout == "127.0.0.1 localhost mine\n"


async def test_a_file_keeps_its_owner_and_a_link_its_target(making):
    async with making.running() as machine:
        await making.sh(machine, "echo x > f; chown user:user f; chmod 640 f; ln -s f link")
        await machine.write_file("link", b"new")
        result = await making.sh(machine, "stat -c '%U %a' f; readlink link; cat f")
        assert result.stdout == "user 640\nf\nnew"


async def test_an_image_without_git_is_refused_before_anything_else(making, docker):
    with pytest.raises(MachineStartError, match=r'has no git.*git = "install"'):
        await DockerMachine(making.config(image=docker.busybox, git="required")).start()
    with pytest.raises(MachineStartError, match="none of apt-get, apk"):
        await DockerMachine(making.config(image=docker.busybox, git="install")).start()


async def test_git_is_installed_where_that_is_allowed(making, docker, tmp_path):
    # A package manager as the script knows it; what it installs is beside the point.
    (tmp_path / "apk").write_text(
        "#!/bin/sh\n[ \"$1\" = add ] && printf '#!/bin/sh\\n' > /bin/git && chmod 755 /bin/git\n"
    )
    (tmp_path / "apk").chmod(0o755)
    volumes = [f"{tmp_path}/apk:/bin/apk:ro"]
    async with making.running(image=docker.busybox, git="install", volumes=volumes) as machine:
        assert (await making.sh(machine, "command -v git")).stdout == "/bin/git\n"


async def test_a_fork_and_its_image_go_together(making, docker):
    async with making.running() as machine:
        await machine.write_file("file", b"before")
        fork = await machine.fork(label=f"fork-{docker.run}")
        try:
            image = inspect(docker, fork.id)["Config"]["Image"]
            assert await find(f"fork-{docker.run}") == fork.id
            assert await fork.read_file("file") == b"before"
            again = await fork.fork()
            try:
                await machine.write_file("file", b"after")
                assert await again.read_file("file") == b"before"
            finally:
                last = inspect(docker, again.id)["Config"]["Image"]
                await fork.stop()
                await again.stop()
        finally:
            await fork.stop()
        for name in (image, last):
            assert docker.docker("image", "inspect", name, code=None).returncode != 0
        assert await machine.snapshots() == []


async def test_a_fork_that_fails_leaves_nothing(making, docker, monkeypatch):
    async with making.running(image=docker.busybox) as machine:

        async def refused(*_, **__):
            raise MachineStartError("on purpose")

        monkeypatch.setattr(DockerMachine, "start", refused)
        with pytest.raises(MachineStartError, match="on purpose"):
            await machine.fork()
        listed = docker.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout
        assert f"gitmachine-snapshot:{machine.id[:12]}" not in listed


async def test_snapshots_are_images_with_names(making, docker):
    async with making.running(user="user") as machine:
        await machine.write_file("file", b"kept")
        name = docker.name("snap")
        assert await machine.snapshot(name) == f"{name}:latest"
        with pytest.raises(MachineError, match="cannot be the name"):
            await machine.snapshot("Not A Name")
        with pytest.raises(MachineError, match="choose another name"):
            await machine.snapshot(docker.busybox)
        with pytest.raises(MachineError, match="left alone"):
            await machine.delete_snapshot(docker.busybox)
        async with making.running(image=f"{name}:latest") as other:
            assert await other.read_file("file") == b"kept"
            assert (await making.sh(other, "id -un")).stdout == "user\n"
            assert await other.snapshots() == []
        await machine.delete_snapshot(f"{name}:latest")
        await machine.delete_snapshot(f"{name}:latest")
        assert await machine.snapshots() == []


async def test_a_container_without_an_init_process_is_the_same(making, docker):
    async with making.running(init=False, image=docker.busybox) as machine:
        await making.sh(machine, "setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &")
        await machine.terminate_processes()
        listed = (await making.sh(machine, "ps -o args | grep -c 'sleep 1000'; echo on")).stdout
        assert listed.endswith("on\n")
        assert "trap" in inspect(docker, machine.id)["Config"]["Entrypoint"][2]


@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("shells", ["ready", "stopped"])
async def test_what_is_left_is_killed_whatever_became_of_the_shells(user, shells, making, docker):
    async with making.running(user=user) as machine:
        await asyncio.gather(*(making.sh(machine, "sleep 0.3") for _ in range(2)))  # a shell for each
        await making.sh(machine, "setsid sleep 1234 >/dev/null 2>&1 & sleep 1234 >/dev/null 2>&1 &")
        listed = "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$c; echo; done | grep -c '^sleep 1234' || :"
        count = ("exec", machine.id, "sh", "-c", listed)
        assert docker.docker(*count).stdout.strip() == "2"
        if shells == "stopped":
            ours = 'case $(tr "\\0" " " <$d/cmdline) in sh\\ *) kill -STOP "${d#/proc/}" ;; esac'
            stop = f"for d in /proc/[0-9]*; do {ours}; done"
            docker.docker("exec", machine.id, "bash", "-c", stop)
        async with asyncio.timeout(90):  # it had no end where two shells were stopped
            await machine.terminate_processes()
        assert docker.docker(*count).stdout.strip() == "0"
        # The shells go on; the one that was slow kills nothing of what comes now.
        assert (await making.sh(machine, "sleep 1; echo on")).stdout == "on\n"


async def test_a_terminal_is_one(making, docker):
    async with making.running(image=docker.busybox) as machine:
        size = attrs.evolve(ExecRequest(argv=["true"]), argv=("sh", "-c", "test -t 0 && test -t 1 && echo $TERM"))
        from gitmachine import TerminalSize

        process = await machine.spawn(attrs.evolve(size, terminal=TerminalSize(91, 33)))
        output = b"".join([data async for data in process.stdout])
        assert output == b"xterm-256color\r\n"
        assert await process.wait() == 0


async def test_a_missing_user_of_a_command_is_named(making, docker):
    async with making.running(image=docker.busybox) as machine:
        with pytest.raises(MachineError, match="nobody-has-this"):
            await machine.execute(ExecRequest(argv=["true"], user="nobody-has-this", timeout=60))
        assert (await making.sh(machine, "echo on")).stdout == "on\n"


async def test_nothing_is_done_before_start(making):
    machine = DockerMachine(making.config())
    with pytest.raises(InvalidStateError, match="call start"):
        await machine.execute(ExecRequest(argv=["true"]))
    await machine.stop()
    with pytest.raises(MachineLostError, match="no container 'nowhere-to-be-found'"):
        await connect("nowhere-to-be-found")


async def test_values_stay_out_of_what_the_engine_logs(making, docker, caplog):
    caplog.set_level(logging.DEBUG)
    async with making.running(image=docker.busybox) as machine:
        process = await machine.spawn(
            ExecRequest(shell="cat; echo $SECRET_VALUE", env={"SECRET_VALUE": "canary-4711"}, open_stdin=True)
        )
        execs = inspect(docker, machine.id)["ExecIDs"]
        await process.stdin.close()
        assert b"".join([data async for data in process.stdout]) == b"canary-4711\n"
        assert execs
        assert "canary-4711" not in json.dumps(inspect(docker, machine.id))
    events = docker.docker("events", "--since", "2m", "--until", "0s", "--filter", "event=exec_create").stdout
    assert "canary-4711" not in events
    assert "canary-4711" not in caplog.text
