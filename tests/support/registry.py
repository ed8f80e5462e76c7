"""A real image registry for tests, with a password, and a proxy that cuts or slows what an engine pulls from it.

An engine takes a registry on 127.0.0.0/8 without TLS. An engine of a test's own does not reach the machine's loopback:
join its namespace by `namespaces.linked`, serve at the link's `here`, and name the network in "insecure-registries".
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from support.docker import Engine
from support.gitserver import wait_until
from support.sshd import free_port

__all__ = ["PASSWORD", "USERNAME", "CuttingProxy", "Registry", "cutting", "missing", "serving_registry"]

SECONDS = 60
USERNAME = "tester"
PASSWORD = "let-me-in"
_HTPASSWD = "tester:$2y$04$p0r/0FHgVb6y6z4sSrWcsebzy1QJjDpuoitEByuB5o/a1tSKElniG\n"
_PROGRAMS = ("docker-registry", "registry")


def missing() -> str | None:
    """Return why tests with a registry cannot run here, or None."""
    return None if any(map(shutil.which, _PROGRAMS)) else "docker-registry is not installed"


class Registry:
    """A registry at ``host`` (address and port); `place` holds its files."""

    def __init__(self, place: Path, address: str, *, password: bool) -> None:
        self.place = place
        self.address = address
        self.port = free_port(address)
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """What an image's name starts with."""
        return f"{self.address}:{self.port}"

    def log(self) -> str:
        """Return what it logged, requests too."""
        return (self.place / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it; returns when it listens."""
        for attempt in range(5):
            if self._started():
                return
            assert attempt < 4, self.log()
            assert "address already in use" in self.log(), self.log()
            self.port = free_port(self.address)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)

    def push(self, engine: Engine, name: str, *, megabytes: int = 0, tag: str = "latest") -> str:
        """Push the engine's busybox image, with this much noise in a layer of its own; returns the full name.

        The engine keeps nothing of it, so a pull has something to bring.
        """
        image = f"{self.host}/{name}:{tag}"
        made = engine.docker("create", engine.busybox, "true").stdout.strip()
        noise = self.place / "noise"
        try:
            noise.write_bytes(os.urandom((megabytes << 20) or 64))
            engine.docker("cp", noise, f"{made}:/noise")
            engine.docker("commit", made, image)
        finally:
            noise.unlink(missing_ok=True)
            engine.docker("rm", "--force", made)
        try:
            engine.docker("--config", self.credentials(), "push", "--quiet", image)
        finally:
            engine.docker("rmi", image)
        return image

    def credentials(self, host: str | None = None) -> Path:
        """Return a directory with the config.json of somebody who has logged in here (or at another name of it)."""
        place = Path(tempfile.mkdtemp(dir=self.place))
        auth = b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (place / "config.json").write_text(json.dumps({"auths": {host or self.host: {"auth": auth}}}))
        return place

    def _started(self) -> bool:
        place = self.place
        program = next(filter(None, map(shutil.which, _PROGRAMS)))
        (place / "htpasswd").write_text(_HTPASSWD)
        config = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": f"{place}/data"}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
            **({"auth": {"htpasswd": {"realm": "tests", "path": f"{place}/htpasswd"}}} if self.password else {}),
        }
        (place / "config.yml").write_text(json.dumps(config))
        with (place / "log").open("wb") as log:
            argv = [program, "serve", f"{place}/config.yml"]
            silent = subprocess.DEVNULL
            process = subprocess.Popen(argv, stdin=silent, stdout=log, stderr=log, start_new_session=True)
        self._process = process
        wait_until(lambda: process.poll() is not None or self._listens(), seconds=SECONDS)
        return process.poll() is None

    def _listens(self) -> bool:
        if "listening on" not in self.log():
            return False
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 5):
            return True
        return False


@contextlib.contextmanager
def serving_registry(*, address: str = "127.0.0.1", password: bool = True) -> Iterator[Registry]:
    """Run a registry for the time of a `with`, for tests that require "docker-registry"."""
    place = Path(tempfile.mkdtemp(prefix="r", dir=os.environ["GM_TESTS_BASE"]))
    registry = Registry(place, address, password=password)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(place, ignore_errors=True)


class CuttingProxy:
    """Relays to a registry; see `cut_after` and `rate`, which hold for connections made from then on."""

    def __init__(self, registry: Registry) -> None:
        self.cut_after: int | None = None
        """Reset a connection when so many bytes came from the registry in it."""
        self.rate: int | None = None
        """Let no more than so many bytes a second through."""
        self.relayed = 0
        """How many bytes went through, both ways."""
        self.cuts = 0
        self._target = (registry.address, registry.port)
        self._ended = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((registry.address, 0), backlog=50)
        self.host = f"{registry.address}:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        """End it; connections are cut."""
        self._ended.set()
        for end in [self._listener, *self._ends]:
            _shut(end, socket.SHUT_RDWR)
        self._listener.close()
        while self._threads:
            self._threads.pop().join(SECONDS)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(self._target, SECONDS)
                far.settimeout(None)
                self._ends += [near, far]
                both = threading.Thread(target=self._connection, args=(near, far), daemon=True)
                self._threads.append(both)
                both.start()

    def _connection(self, near: socket.socket, far: socket.socket) -> None:
        up = threading.Thread(target=self._relay, args=(near, far, None, None), daemon=True)
        up.start()
        if not self._relay(far, near, self.cut_after, self.rate):
            self.cuts += 1
            _shut(near, socket.SHUT_RD)  # wakes the other thread
            # To linger for no time is to end with a reset.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        up.join(SECONDS)
        for end in (near, far):
            self._ends.remove(end)
            end.close()

    def _relay(self, source: socket.socket, target: socket.socket, limit: int | None, rate: int | None) -> bool:
        """Copy until an end closes, True; or until the limit, False."""
        started, copied = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if limit is not None and copied + len(data) > limit:
                    return False
                target.sendall(data)
                copied += len(data)
                self.relayed += len(data)
                if rate is not None:
                    self._ended.wait(max(0.0, started + copied / rate - time.monotonic()))
        _shut(target, socket.SHUT_WR)
        return True


def _shut(end: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)


@contextlib.contextmanager
def cutting(registry: Registry) -> Iterator[CuttingProxy]:
    """Put a proxy before a registry for the time of a `with`; its `host` replaces the registry's in an image's name."""
    proxy = CuttingProxy(registry)
    try:
        yield proxy
    finally:
        proxy.stop()
