"""A Docker engine for tests: the machine's own, with images whose containers are known again, or one to be killed.

The images are made by `scripts/test-images`. A run tests with copies of them that carry its label, and a container
inherits the labels of its image: whatever a test makes, and however it dies, is found and taken away at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.gitserver import wait_until

__all__ = ["BUSYBOX", "DEBIAN", "URL", "Engine", "OwnEngine", "engine", "engine_of_its_own", "missing"]

URL = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
DEBIAN = "gitmachine-test-debian"
BUSYBOX = "gitmachine-test-busybox"
LABEL = "gitmachine.tests.run"
SECONDS = 120
_numbers = itertools.count(1)


def missing() -> str | None:
    """Return why tests with Docker cannot run here, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for image in (DEBIAN, BUSYBOX):
        try:
            done = Engine(URL).docker("image", "inspect", image, code=None)
        except subprocess.TimeoutExpired:
            return f"no answer from the Docker engine at {URL}"
        if done.returncode != 0:
            return f"no image {image!r} at {URL} (scripts/test-images makes it): {done.stderr.strip()}"
    return None


class Engine:
    """An engine at a URL, asked by the docker command line."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.run = secrets.token_hex(4)
        self.debian = f"{DEBIAN}:{self.run}"
        self.busybox = f"{BUSYBOX}:{self.run}"

    def docker(
        self, *arguments: str | Path, code: int | None = 0, data: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a docker command and check its exit code (None: any)."""
        argv = ["docker", *map(str, arguments)]
        env = {**os.environ, "DOCKER_HOST": self.url}
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=SECONDS, check=False, env=env, input=data or ""
        )
        assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def name(self, stem: str = "t") -> str:
        """Make up a name for a container, an image or a network that nothing else in any run has."""
        return f"gmt-{self.run}-{stem}-{next(_numbers)}"

    def containers(self) -> list[str]:
        """Return the ids of all containers, running or not, that were made from this run's images."""
        listed = self.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}={self.run}")
        return listed.stdout.split()

    def adopt(self, image: str, label: str | None = None) -> None:
        """Make this run's copy of an image: the same layers, and the label that its containers inherit."""
        made = self.docker("create", image, "true").stdout.strip()
        try:
            self.docker("commit", "--change", f"LABEL {LABEL}={self.run}", made, label or f"{image}:{self.run}")
        finally:
            self.docker("rm", "--force", made)

    def clean(self) -> None:
        """Remove this run's containers and all images that come from this run's."""
        for _ in range(3):  # what a test left running may still be making more
            if not (found := self.containers()):
                break
            self.docker("rm", "--force", "--volumes", *found, code=None)
        listed = self.docker("images", "--quiet", "--filter", f"label={LABEL}={self.run}").stdout.split()
        if listed:
            self.docker("rmi", "--force", *dict.fromkeys(listed), code=None)


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Give the machine's engine for the time of a `with`, with images of this run; all that came of them goes away."""
    found = Engine(URL)
    try:
        found.adopt(DEBIAN)
        found.adopt(BUSYBOX)
        yield found
    finally:
        found.clean()


class OwnEngine(Engine):
    """An engine of a test's own, which may be killed and started again.

    It lives in a network namespace: an engine takes the bridge and the firewall of where it is for its own. So its
    containers reach one another and nothing else, and ports that it publishes are inside the namespace.
    """

    def __init__(self, place: Path, settings: Mapping[str, object]) -> None:
        super().__init__(f"unix://{place}/d.sock")
        self.place = place
        self.settings = dict(settings)
        self.namespace = f"gme-{self.run}"
        self._socket = place / "c.sock"
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The engine's process."""
        assert self._dockerd is not None
        return self._dockerd.pid

    def start(self) -> None:
        """Start it, or start it again; returns when it answers."""
        if self._containerd is None:
            _ip("netns", "add", self.namespace)
            _ip("-n", self.namespace, "link", "set", "lo", "up")
            self._containerd = self._spawn(*self._containerd_argv())
            wait_until(self._socket.exists, seconds=SECONDS)
        (self.place / "d.pid").unlink(missing_ok=True)
        self._dockerd = self._spawn(*self._dockerd_argv())
        wait_until(self._answers, seconds=SECONDS)

    def kill(self) -> None:
        """Kill the engine as if it had crashed; the containers run on."""
        self._end(self._dockerd, signal.SIGKILL)
        self._dockerd = None

    def stop(self) -> None:
        """End the engine as a service manager does: the containers end too."""
        self._end(self._dockerd, signal.SIGTERM)
        self._dockerd = None

    def close(self) -> None:
        """End everything, however far it came, and remove it."""
        try:
            if self._containerd is not None:
                self._kill_tasks()
                if self._dockerd is None or self._dockerd.poll() is not None:
                    self.start()
                if everything := self.docker("ps", "--all", "--quiet", code=None).stdout.split():
                    self.docker("rm", "--force", *everything, code=None)
                self.stop()
        finally:
            self._end(self._dockerd, signal.SIGKILL)
            self._end(self._containerd, signal.SIGTERM)
            _unmount_below(self.place)
            _ip("netns", "del", self.namespace, check=False)
            shutil.rmtree(self.place, ignore_errors=True)

    def log(self) -> str:
        """Return what the engine and its containerd said."""
        return (self.place / "log").read_text(errors="replace")

    def _kill_tasks(self) -> None:
        # An engine that starts again gives each container it finds ten seconds to end by itself.
        ctr = ["ctr", "--address", str(self._socket), "--namespace", "moby", "tasks"]
        listed = subprocess.run([*ctr, "ls", "-q"], capture_output=True, text=True, timeout=SECONDS, check=False)
        for task in listed.stdout.split():
            subprocess.run([*ctr, "kill", "-s", "KILL", task], capture_output=True, timeout=SECONDS, check=False)

    def _containerd_argv(self) -> Sequence[str]:
        place = self.place
        state = ["--root", f"{place}/containerd", "--state", f"{place}/run-containerd"]
        (place / "containerd.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        return ["containerd", "--config", f"{place}/containerd.toml", *state, "--address", str(self._socket)]

    def _dockerd_argv(self) -> Sequence[str]:
        place = self.place
        where = ["--data-root", f"{place}/data", "--exec-root", f"{place}/exec", "--pidfile", f"{place}/d.pid"]
        (place / "daemon.json").write_text(json.dumps(self.settings))
        config = ["--config-file", f"{place}/daemon.json"]
        return ["dockerd", *config, "--host", self.url, *where, "--containerd", str(self._socket)]

    def _spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        entering = ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *argv]
        with (self.place / "log").open("ab") as log:
            return subprocess.Popen(entering, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _answers(self) -> bool:
        assert self._dockerd is not None
        assert self._dockerd.poll() is None, f"dockerd ended by itself:\n{self.log()[-4000:]}"
        return self.docker("version", code=None).returncode == 0

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(SECONDS)


@contextlib.contextmanager
def engine_of_its_own(*images: str, settings: Mapping[str, object] | None = None) -> Iterator[OwnEngine]:
    """Run an engine apart from the machine's, for tests that require "own-docker".

    It has the machine's images of these names (BUSYBOX); `settings` are its daemon.json.
    """
    base = os.environ.get("GM_TESTS_BASE", "/tmp")
    own = OwnEngine(Path(tempfile.mkdtemp(prefix="e", dir=base)), settings or {})
    try:
        own.start()
        for image in images or (BUSYBOX,):
            _carry(image, own)
            own.adopt(image)
        yield own
    finally:
        own.close()


def _carry(image: str, target: OwnEngine) -> None:
    archive = target.place / "image.tar"
    try:
        Engine(URL).docker("save", "--output", archive, image)
        target.docker("load", "--input", archive)
    finally:
        archive.unlink(missing_ok=True)


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def _unmount_below(place: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        points = [point for line in lines if (point := line.split()[1]).startswith(f"{place}/")]
        if not points:
            return
        subprocess.run(["umount", "--lazy", *reversed(points)], capture_output=True, timeout=60, check=False)
