"""P6: a hundred machines in parallel (start, one command, stop) against a shell loop; and the client's memory.

python -m benchmarks fleet
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks import places
from benchmarks.peers import worker
from benchmarks.report import Aim, interleaved, judge, publish

ROUNDS = 3
SIZES = (10, 30, 100)
PARALLEL = 16
"""Commands of `xargs` at once; fewer and more were slower on two cores."""
MEMORY_KIB = 256
OURS = "GitMachine"


def loop_of(script: str, count: int, *arguments: str) -> None:
    """Run a script so many times, in parallel."""
    numbers = "".join(f"{number}\n" for number in range(count))
    argv = ["xargs", "-P", str(PARALLEL), "-I", "N", "sh", "-ec", script, "N", *arguments]
    subprocess.run(argv, input=numbers.encode(), check=True, stdout=subprocess.DEVNULL)


def measure(
    name: str, provider: str, options: Mapping[str, object], peer: Callable[[int], None], peer_name: str
) -> None:
    """Publish a fleet at each size, then the memory."""
    for count in SIZES:
        with worker(
            "fleet", python=sys.executable, provider=provider, options=options, work="run", count=count
        ) as ours:
            contenders: dict[str, Callable[[], float | None]] = {peer_name: partial(peer, count), OURS: ours}
            aims = [Aim(OURS, peer_name, at_most=1.1)] if count == SIZES[-1] else []
            publish(f"p6-{name}, {count} machines", interleaved(contenders, ROUNDS), against=peer_name, aims=aims)
    given = {"provider": provider, "options": options, "work": "memory", "count": 50}
    with worker("fleet", python=sys.executable, **given) as idle:
        judge(f"p6-{name}", "KiB of the client for an idle machine", idle() / 1024, at_most=MEMORY_KIB)


def local() -> None:
    """Measure sandboxes on this host; the loop's have no supervisor, and cannot be entered again."""
    script = (
        "home=$(mktemp -d); bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink "
        'usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp --bind "$home" /home/user '
        'sh -c true; rm -rf "$home"'
    )
    measure("local", "local", {}, partial(loop_of, script), f"xargs -P {PARALLEL} bwrap")


def docker() -> None:
    """Measure containers."""
    with places.docker() as engine:
        if engine is None:
            return
        os.environ["DOCKER_HOST"] = engine.url
        script = (
            'box=$(docker run -d --init --network none "$1" sleep infinity); docker exec "$box" sh -c true; '
            'docker rm -f -v "$box"'
        )

        def peer(count: int) -> None:
            loop_of(script, count, engine.image)

        measure("docker", "local_docker", engine.options, peer, f"xargs -P {PARALLEL} docker")


def main() -> None:
    """Measure every provider that can be had."""
    with places.folder():
        local()
        docker()


if __name__ == "__main__":
    main()
