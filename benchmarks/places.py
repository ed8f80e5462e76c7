"""Where the benchmarks run: the services that the tests start too, or the reason why one is not here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


@contextmanager
def folder() -> Iterator[Path]:
    """Give a directory in which GitMachine keeps everything, and git looks at no other configuration."""
    place = Path(tempfile.mkdtemp(prefix="gmb-"))
    changed = {
        "GITMACHINE_HOME": str(place / "home"),
        "GM_TESTS_BASE": str(place),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(place / "gitconfig"),
    }
    (place / "gitconfig").write_text("[safe]\n\tdirectory = *\n", encoding="utf-8")
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield place
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(place, ignore_errors=True)


def make_repository(path: Path, commits: int = 1200) -> None:
    """Make a bare repository by fast-import."""
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", path], check=True)
    lines = []
    for number in range(1, commits + 1):
        lines += [
            "commit refs/heads/main",
            f"committer Ada <ada@example.org> {1_700_000_000 + number} +0000",
            f"data {len(str(number))}",
            str(number),
            f"M 100644 inline file{number % 50}.txt",
            f"data {len(str(number)) + 1}",
            f"{number}\n",
        ]
    script = "\n".join(lines) + "\n"
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=script.encode(), check=True)


@attrs.frozen
class Docker:
    """An engine with the tests' Debian image."""

    url: str
    image: str

    def run(self, *arguments: str | Path, quiet: bool = True) -> None:
        """Run a docker command to its end."""
        env = {**os.environ, "DOCKER_HOST": self.url}
        subprocess.run(["docker", *arguments], check=True, env=env, stdout=subprocess.DEVNULL if quiet else None)

    @property
    def options(self) -> dict[str, object]:
        """The options of a machine that is as isolated as can be."""
        return {"image": self.image, "docker_host": self.url, "network": "none", "pull": "never"}

    @contextmanager
    def container(self, *arguments: str) -> Iterator[str]:
        """Keep a container of the image running, by the command line; gives its id."""
        env = {**os.environ, "DOCKER_HOST": self.url}
        argv = ["docker", "run", "-d", "--init", "--network", "none", *arguments, self.image, "sleep", "infinity"]
        made = subprocess.run(argv, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout.strip()
        try:
            yield made
        finally:
            self.run("rm", "-f", "-v", made)


@contextmanager
def docker() -> Iterator[Docker | None]:
    """Give the machine's engine, or None after saying why there is none."""
    from support import docker as service

    reason = service.missing()
    if reason is not None:
        print(f"\nnothing with Docker: {reason}")
        yield None
        return
    with service.engine() as engine:
        yield Docker(engine.url, engine.debian)


@attrs.frozen
class Ssh:
    """An sshd on this host, and an account whose shell has no file to read at its start."""

    user: str
    port: int
    key: Path
    known_hosts: Path
    control: Path

    @property
    def options(self) -> dict[str, object]:
        """The options of a machine there."""
        given = {"identity_file": [str(self.key)], "known_hosts": [str(self.known_hosts)], "config_file": None}
        return {"host": "127.0.0.1", "port": self.port, "user": self.user, "agent": False, **given}

    @property
    def worker(self) -> dict[str, object]:
        """What a peer is told."""
        given = {"key": str(self.key), "known_hosts": str(self.known_hosts)}
        return {"host": "127.0.0.1", "port": self.port, "user": self.user, **given}

    @property
    def there(self) -> str:
        """The account's address."""
        return f"{self.user}@127.0.0.1"

    def command(self, program: str = "ssh") -> list[str]:
        """Return the beginning of an ssh (or scp) command on one shared connection."""
        options = [
            f"ControlPath={self.control}",
            "ControlMaster=auto",
            "ControlPersist=60",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.known_hosts}",
        ]
        port = "-P" if program == "scp" else "-p"
        pairs = [word for option in options for word in ("-o", option)]
        return [program, "-q", "-F", "none", "-i", str(self.key), port, str(self.port), *pairs]


@contextmanager
def ssh(place: Path) -> Iterator[Ssh | None]:
    """Give an sshd of this run's own, or None after saying why there is none."""
    from support import sshd as service

    reason = service.missing() or service.accounts_missing()
    if reason is not None:
        print(f"\nnothing with SSH: {reason}")
        yield None
        return
    with service.serving_sshd() as server:
        known_hosts = place / "known_hosts"
        known_hosts.write_text(server.known_hosts(), encoding="utf-8")
        found = Ssh(service.DASH, server.port, service.client_key(), known_hosts, place / "control")
        try:
            yield found
        finally:
            subprocess.run([*found.command(), "-O", "exit", found.there], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def e2b() -> Iterator[dict[str, str]]:
    """Give the tests' emulator of E2B, in a process of its own, as environment variables."""
    argv = [sys.executable, "-m", "support.e2b", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "tests")}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env)
    try:
        if process.stdout is None:
            raise RuntimeError("the emulator has no output")
        yield json.loads(process.stdout.readline())["environment"]
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
