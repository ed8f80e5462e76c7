"""P1: ``run("true")`` in a running machine, by the blocking class, against the provider's limit and other tools.

    python -m benchmarks commands [local] [docker] [ssh] [e2b]

The whole stack is in it: the blocking class and its loop, the guard around the machine, the journal. Then how the cost
grows with the output of a command.

What takes a few milliseconds is measured in turns with what takes as long, and not with what keeps the engine busy for
fifty: whoever's turn comes behind that pays for the cold caches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import places
from benchmarks.peers import worker
from benchmarks.report import Aim, interleaved, publish
from gitmachine import GitMachine

ROUNDS = 60
GROWTH = {"nothing": 0, "64 KiB": 64 << 10, "4 MiB": 4 << 20}
LIMIT = "sh -c true, on this host"
OURS = 'GitMachine.run("true")'


def shell() -> None:
    """Run what is the least that a command can cost."""
    subprocess.run(["sh", "-c", "true"], check=True)


def session(place: Path, provider: str, options: Mapping[str, object], stack: ExitStack) -> GitMachine:
    """Start a session on a small repository."""
    remote = place / f"{provider}.git"
    places.make_repository(remote, 3)
    return stack.enter_context(GitMachine(provider, repository=str(remote), session="p1", options=dict(options)))


def growth(gm: GitMachine, name: str) -> None:
    """Publish what a command costs by the size of its output."""
    contenders = {
        f"{size} of output": partial(_checked, gm, f"head -c {count} /dev/zero") for size, count in GROWTH.items()
    }
    publish(f"{name}-growth", interleaved(contenders, 20), against="nothing of output")


def _checked(gm: GitMachine, script: str) -> None:
    gm.run(script, check=True)


def _pair(gm: GitMachine) -> dict[str, list[float]]:
    """Measure a command of ours in turns with what it is compared with."""
    return interleaved({LIMIT: shell, OURS: lambda: _checked(gm, "true")}, 300)


def local(place: Path) -> None:
    """Measure the sandbox on this host."""
    with ExitStack() as stack:
        gm = session(place, "local", {}, stack)
        publish("p1-local", _pair(gm), against=LIMIT, aims=[Aim(OURS, LIMIT, at_most=2)])
        growth(gm, "p1-local")


def docker(place: Path) -> None:
    """Measure a container without a network."""
    with places.docker() as engine, ExitStack() as stack:
        if engine is None:
            return
        gm = session(place, "local_docker", engine.options, stack)
        container = stack.enter_context(engine.container())
        publish("p1-docker", _pair(gm), against=LIMIT, aims=[Aim(OURS, LIMIT, at_most=2)])
        common = {"url": engine.url, "container": container, "argv": ["sh", "-c", "true"]}
        contenders: dict[str, Callable[[], float | None]] = {
            OURS: lambda: _checked(gm, "true"),
            "docker exec": lambda: engine.run("exec", container, "sh", "-c", "true"),
            "docker-py exec_run": stack.enter_context(worker("docker_py", **common)),
            "aiodocker exec": stack.enter_context(worker("aiodocker_exec", **common)),
            "swe-rex execute": stack.enter_context(worker("swe_rex", argv=["sh", "-c", "true"])),
        }
        aims = [Aim("docker exec", OURS, at_least=20)]
        publish("p1-docker-peers", interleaved(contenders, ROUNDS), against=OURS, aims=aims)
        growth(gm, "p1-docker")


def ssh(place: Path) -> None:
    """Measure a machine on an sshd of this host."""
    with places.ssh(place) as server, ExitStack() as stack:
        if server is None:
            return
        gm = session(place, "ssh", server.options, stack)
        there = [*server.command(), server.there, "true"]
        contenders: dict[str, Callable[[], float | None]] = {
            "asyncssh, one channel": stack.enter_context(worker("asyncssh_channel", command="true", **server.worker)),
            OURS: lambda: _checked(gm, "true"),
            "ssh with ControlMaster": lambda: _run(there),
            "paramiko": stack.enter_context(worker("paramiko_exec", command="true", **server.worker)),
        }
        aims = [Aim(OURS, "asyncssh, one channel", at_most=1.2)]
        publish("p1-ssh", interleaved(contenders, ROUNDS), against="asyncssh, one channel", aims=aims)
        growth(gm, "p1-ssh")


def e2b(place: Path) -> None:
    """Measure a sandbox of the emulator."""
    with places.e2b() as environ, ExitStack() as stack:
        own = {"api_key": environ["E2B_API_KEY"], "api_url": environ["E2B_API_URL"]}
        gm = session(place, "e2b", {**own, "sandbox_url": environ["E2B_SANDBOX_URL"]}, stack)
        given = {**own, "sandbox_url": environ["E2B_SANDBOX_URL"], "sandbox": gm.id, "command": "true"}
        given["token"] = _token(environ, str(gm.id))
        raw = stack.enter_context(worker("e2b_raw", **given))
        contenders: dict[str, Callable[[], float | None]] = {
            "the Start stream by httpx": raw,
            OURS: lambda: _checked(gm, "true"),
            "E2B's SDK": stack.enter_context(worker("e2b_sdk", **given)),
        }
        aims = [Aim(OURS, "the Start stream by httpx", at_most=1.2), Aim(OURS, "E2B's SDK", at_most=1)]
        publish("p1-e2b", interleaved(contenders, ROUNDS), against="the Start stream by httpx", aims=aims)
        growth(gm, "p1-e2b")


def _token(environ: Mapping[str, str], sandbox: str) -> str:
    """Ask the control plane for a sandbox's access token."""
    request = urllib.request.Request(  # the emulator's address
        f"{environ['E2B_API_URL']}/sandboxes/{sandbox}", headers={"X-API-Key": environ["E2B_API_KEY"]}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # as above
        return str(json.load(answer)["envdAccessToken"])


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True)


def main() -> None:
    """Measure every provider that can be had, or those that are named."""
    measures = {"local": local, "docker": docker, "ssh": ssh, "e2b": e2b}
    named = [name for name in sys.argv[1:] if name in measures]
    with places.folder() as place:
        for name in named or measures:
            measures[name](place)


if __name__ == "__main__":
    main()
