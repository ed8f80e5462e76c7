"""A real sshd for tests: keys, port and configuration of its own, stopped and killed as a test likes."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.gitserver import wait_until

__all__ = [
    "ACCOUNTS",
    "BASH",
    "BUSYBOX",
    "DASH",
    "ORDINARY",
    "Sshd",
    "accounts_missing",
    "certify",
    "client_key",
    "free_port",
    "missing",
    "new_key",
    "serving_sshd",
]

ORDINARY = "gitmachine-tests"
BASH = "gitmachine-bash"
"""Its .bashrc writes on both streams and takes 0.3 s."""
DASH = "gitmachine-dash"
BUSYBOX = "gitmachine-busybox"
ACCOUNTS = (ORDINARY, BASH, DASH, BUSYBOX)
"""Made by scripts/test-accounts."""

SECONDS = 60
_SBIN = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"

_DEFAULTS = {
    "AllowTcpForwarding": "yes",
    "KbdInteractiveAuthentication": "no",
    "LogLevel": "VERBOSE",
    "MaxStartups": "300",
    "PasswordAuthentication": "no",
    "PermitRootLogin": "prohibit-password",
    "PidFile": "none",
    "PrintMotd": "no",
    "StrictModes": "no",
    "UsePAM": "no",
}


def missing() -> str | None:
    """Return why tests with an sshd cannot run here, or None."""
    absent = [name for name in ("sshd", "ssh-keygen") if shutil.which(name, path=_SBIN) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def accounts_missing() -> str | None:
    """Return why tests that log in to other accounts cannot run here, or None."""
    if os.geteuid() != 0:
        return "not root: an sshd lets in only the account that it runs as"
    known = {entry.pw_name for entry in pwd.getpwall()}
    absent = [name for name in ACCOUNTS if name not in known]
    return f"no accounts {', '.join(absent)} (scripts/test-accounts makes them)" if absent else None


def new_key(path: Path, *, passphrase: str = "") -> Path:
    """Make a key pair; returns the private half's path."""
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "tester", "-f", str(path))
    return path


@functools.cache
def client_key() -> Path:
    """Return the key that every server here lets in, made once in a process."""
    return new_key(Path(tempfile.mkdtemp(prefix="k", dir=os.environ["GM_TESTS_BASE"]), "id"))


def certify(authority: Path, key: Path, *principals: str, validity: str = "-5m:+1h") -> Path:
    """Sign a key pair's public half for these accounts with another key; returns the certificate's path."""
    public = str(key.with_name(f"{key.name}.pub"))
    _run("ssh-keygen", "-q", "-s", str(authority), "-I", "tester", "-n", ",".join(principals), "-V", validity, public)
    return key.with_name(f"{key.name}-cert.pub")


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class Sshd:
    """A server at ``address:port``; `options` are lines of sshd_config, read at each start."""

    def __init__(self, place: Path, address: str, namespace: str | None, options: Mapping[str, str]) -> None:
        self.place = place
        self.address = address
        self.namespace = namespace
        self.port = free_port() if namespace is None else 22
        self.options = {"AuthorizedKeysFile": str(place / "authorized_keys"), **_DEFAULTS, **options}
        self.sftp = True
        self._process: subprocess.Popen[bytes] | None = None
        self.authorize(client_key())
        self.new_host_key()

    def authorize(self, *keys: Path) -> None:
        """Let in who has one of these keys, and nobody else."""
        lines = [key.with_name(f"{key.name}.pub").read_text() for key in keys]
        (self.place / "authorized_keys").write_text("".join(lines))
        (self.place / "authorized_keys").chmod(0o644)

    def new_host_key(self) -> None:
        """Have another host key from the next start on."""
        for name in ("host", "host.pub"):
            (self.place / name).unlink(missing_ok=True)
        new_key(self.place / "host")

    def known_hosts(self) -> str:
        """Return the line of a known_hosts file that says what this server's key is."""
        kind, key = (self.place / "host.pub").read_text().split()[:2]
        host = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return f"{host} {kind} {key}\n"

    def start(self) -> None:
        """Start it; returns when it listens."""
        assert self._process is None or self._process.poll() is not None
        for attempt in range(5):
            if self._started():
                return
            assert attempt < 4, self.log()
            assert "Address already in use" in self.log(), self.log()
            self.port = free_port()

    def stop_listening(self) -> None:
        """End the server for new connections; those that are there live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(SECONDS)

    def kill(self) -> None:
        """Kill the server and all that serves or runs in its connections, but not what made itself independent."""
        if self._process is not None:
            _kill([self._process.pid, *_descendants(self._process.pid)])
            self._process.wait(SECONDS)

    def kill_sessions(self) -> None:
        """Cut every connection off; the server takes new ones."""
        assert self._process is not None
        _kill(_descendants(self._process.pid))

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    def log(self) -> str:
        """Return what it logged since its last start."""
        return (self.place / "log").read_text(errors="replace")

    def _started(self) -> bool:
        (self.place / "sshd_config").write_text(self._config())
        (self.place / "log").write_bytes(b"")
        program = shutil.which("sshd", path=_SBIN)
        assert program is not None
        entering = ["nsenter", f"--net=/run/netns/{self.namespace}", "--"] if self.namespace else []
        argv = [*entering, program, "-D", "-E", str(self.place / "log"), "-f", str(self.place / "sshd_config")]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        silent = subprocess.DEVNULL
        process = subprocess.Popen(argv, stdin=silent, stdout=silent, stderr=silent, start_new_session=True)
        self._process = process
        wait_until(lambda: "Server listening on" in self.log() or process.poll() is not None, seconds=SECONDS)
        return process.poll() is None

    def _config(self) -> str:
        fixed = {"ListenAddress": self.address, "Port": str(self.port), "HostKey": str(self.place / "host")}
        if self.sftp:
            fixed["Subsystem"] = "sftp internal-sftp"
        if _version() >= (9, 8):
            fixed["PerSourcePenalties"] = "no"
        return "".join(f"{name} {value}\n" for name, value in {**fixed, **self.options}.items())


@contextlib.contextmanager
def serving_sshd(
    *,
    address: str = "127.0.0.1",
    namespace: str | None = None,
    sftp: bool = True,
    options: Mapping[str, str] | None = None,
) -> Iterator[Sshd]:
    """Run an sshd for the time of a `with`, for tests that require "sshd"; in a network namespace on port 22.

    `options` go before the defaults, for example ``{"MaxSessions": "1", "Banner": path, "TrustedUserCAKeys": path}``.
    """
    place = Path(tempfile.mkdtemp(prefix="gms-", dir="/tmp"))
    place.chmod(0o755)  # an sshd reads the authorized keys as the account that logs in
    try:
        server = Sshd(place, address, namespace, options or {})
        server.sftp = sftp
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@functools.cache
def _version() -> tuple[int, ...]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=60, check=True).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    todo = [pid]
    while todo:
        children = [child for child, parent in parents.items() if parent in todo]
        found += children
        todo = children
    return found
