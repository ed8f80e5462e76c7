"""P3: a gigabyte of output through a machine, against the provider's own command line into a pipe; and the memory.

python -m benchmarks streaming
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import places
from benchmarks.peers import worker
from benchmarks.report import Aim, interleaved, judge, publish

SIZES = {"64 MiB": (64 << 20, 5), "256 MiB": (256 << 20, 3), "1 GiB": (1 << 30, 3)}
MEMORY_MIB = 64
OURS = "GitMachine"


def piped(argv: list[str], env: dict[str, str] | None = None) -> None:
    """Run a command into a pipe that somebody reads."""
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
    subprocess.run(["cat"], stdin=first.stdout, stdout=subprocess.DEVNULL, check=True)
    if first.stdout is not None:
        first.stdout.close()
    if first.wait() != 0:
        raise RuntimeError(f"{argv} ended with {first.returncode}")


def docker() -> None:
    """Measure at each size against `docker exec`."""
    with places.docker() as engine, ExitStack() as stack:
        if engine is None:
            return
        container = stack.enter_context(engine.container())
        env = {**os.environ, "DOCKER_HOST": engine.url}
        for size, (count, rounds) in SIZES.items():
            options = {"provider": "local_docker", "options": engine.options, "work": "stream", "count": count}
            with worker("machine", python=sys.executable, **options) as ours:
                cli = ["docker", "exec", container, "head", "-c", str(count), "/dev/zero"]
                contenders: dict[str, Callable[[], float | None]] = {
                    "docker exec | cat": partial(piped, cli, env),
                    OURS: ours,
                }
                aims = [Aim(OURS, "docker exec | cat", at_most=1)] if count == 1 << 30 else []
                publish(f"p3-docker, {size}", interleaved(contenders, rounds), against="docker exec | cat", aims=aims)
                judge(
                    f"p3-docker, {size}", "MiB of memory of the client", ours.peak_bytes() / 2**20, at_most=MEMORY_MIB
                )


def ssh(place: Path) -> None:
    """Measure at each size against `ssh`."""
    with places.ssh(place) as server:
        if server is None:
            return
        for size, (count, rounds) in SIZES.items():
            options = {"provider": "ssh", "options": server.options, "work": "stream", "count": count}
            with worker("machine", python=sys.executable, **options) as ours:
                argv = [*server.command(), server.there, f"head -c {count} /dev/zero"]
                channel = worker("asyncssh_channel", command=f"head -c {count} /dev/zero", drop=True, **server.worker)
                with channel as bare:
                    contenders: dict[str, Callable[[], float | None]] = {
                        "ssh | cat": partial(piped, argv),
                        "asyncssh, dropped": bare,
                        OURS: ours,
                    }
                    aims = [Aim(OURS, "ssh | cat", at_most=1)] if count == 1 << 30 else []
                    publish(f"p3-ssh, {size}", interleaved(contenders, rounds), against="ssh | cat", aims=aims)
                judge(f"p3-ssh, {size}", "MiB of memory of the client", ours.peak_bytes() / 2**20, at_most=MEMORY_MIB)


def main() -> None:
    """Measure every provider that can be had."""
    with places.folder() as place:
        docker()
        ssh(place)


if __name__ == "__main__":
    main()
