"""Networks that a test may cut: network namespaces joined by veth pairs. Needs root.

Every network here is of the range 10.213.0.0/16, and a test's link has a number of its own on this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.gitserver import wait_until

__all__ = ["Link", "Namespace", "jump_host", "linked", "missing", "namespace"]

SECONDS = 60
_names = itertools.count(1)
_RUN = secrets.token_hex(2)
_LOCKS = Path("/tmp/gitmachine-test-links")


def missing() -> str | None:
    """Return why tests with networks of their own cannot run here, or None."""
    if os.geteuid() != 0:
        return "not root"
    absent = [name for name in ("ip", "nsenter", "iptables") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    name = f"gmn-probe-{os.getpid()}"
    made = _run("ip", "netns", "add", name, check=False)
    if made.returncode != 0:
        return f"cannot make a network namespace here: {made.stderr.strip()}"
    try:
        veth = _run("ip", "-n", name, "link", "add", "probe", "type", "veth", "peer", "name", "eborp", check=False)
    finally:
        _run("ip", "netns", "del", name)
    return None if veth.returncode == 0 else f"cannot make a veth pair here: {veth.stderr.strip()}"


class Namespace:
    """A network namespace by name; run a program in it by putting `entering` before its arguments."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def entering(self) -> list[str]:
        """Return the start of a command line."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        return _run(*self.entering, *argv, check=check)


class Link:
    """A pair of interfaces: `here` is the address of this end, `there` that of the other."""

    def __init__(self, number: int, near: Namespace | None, far: Namespace) -> None:
        self.near = near
        self.far = far
        self.here = f"10.213.{number}.1"
        self.there = f"10.213.{number}.2"
        self._name = f"gmn{number}"
        peer = f"{self._name}p"
        _run("ip", "link", "add", self._name, "type", "veth", "peer", "name", peer)
        if near is not None:
            _run("ip", "link", "set", self._name, "netns", near.name)
        _run("ip", "link", "set", peer, "netns", far.name)
        self._near("ip", "addr", "add", f"{self.here}/30", "dev", self._name)
        far.run("ip", "addr", "add", f"{self.there}/30", "dev", peer)
        far.run("ip", "link", "set", peer, "up")
        self._near("ip", "link", "set", self._name, "up")
        wait_until(self._reachable, seconds=SECONDS)

    def down(self) -> None:
        """Cut it: what is sent is lost, in both directions, and nobody is told."""
        self.far.run("ip", "link", "set", f"{self._name}p", "down")

    def up(self) -> None:
        """Let it work again; returns when it does."""
        self.far.run("ip", "link", "set", f"{self._name}p", "up")
        self._near("ip", "neigh", "flush", "dev", self._name)
        wait_until(self._reachable, seconds=SECONDS)

    def refuse(self) -> None:
        """Answer every packet that comes to the other end with a reset."""
        self.far.run("iptables", "-I", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    def drop(self) -> None:
        """Lose every packet that comes to the other end; the interfaces say that they are up."""
        self.far.run("iptables", "-I", "INPUT", "-j", "DROP")

    def allow(self) -> None:
        """Undo `refuse` and `drop`."""
        self.far.run("iptables", "-F", "INPUT")

    def remove(self) -> None:
        """Take it away."""
        self._near("ip", "link", "del", self._name, check=False)

    def _reachable(self) -> bool:
        # Port 9 refuses, which takes a packet there and one back.
        tried = self._near("env", "LC_ALL=C", "timeout", "5", "bash", "-c", f"</dev/tcp/{self.there}/9", check=False)
        return "refused" in tried.stderr

    def _near(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return (self.near.run if self.near is not None else _run)(*argv, check=check)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with its own loopback for the time of a `with`; what still runs in it at the end is killed."""
    name = f"gmn-{_RUN}-{os.getpid()}-{next(_names)}"
    _run("ip", "netns", "add", name)
    try:
        made = Namespace(name)
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        pids = _run("ip", "netns", "pids", name, check=False).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        _run("ip", "netns", "del", name, check=False)


@contextlib.contextmanager
def linked(far: Namespace, near: Namespace | None = None) -> Iterator[Link]:
    """Join a namespace to the machine itself, or to another namespace."""
    with _number() as number:
        link = Link(number, near, far)
        try:
            yield link
        finally:
            link.remove()


@contextlib.contextmanager
def jump_host() -> Iterator[tuple[Link, Link]]:
    """Make this → A → B: only A is reachable from here, and B only from A. Returns the links to A and from A to B."""
    with namespace() as a, namespace() as b, linked(a) as first, linked(b, a) as second:
        direct = ("unreachable", f"{second.there}/32")
        _run("ip", "route", "add", *direct)  # wherever else this machine would send it
        try:
            yield first, second
        finally:
            _run("ip", "route", "del", *direct)


@contextlib.contextmanager
def _number() -> Iterator[int]:
    # Locked files keep the workers of a test run, and runs, apart; a lock ends with the process that holds it.
    _LOCKS.mkdir(exist_ok=True)
    for number in range(1, 250):
        with (_LOCKS / str(number)).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not _in_use(number):
                yield number
                return
    raise AssertionError(f"every number below {_LOCKS} is taken: remove the links that earlier runs left (ip link)")


def _in_use(number: int) -> bool:
    return Path(f"/sys/class/net/gmn{number}").exists()


def _run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done
