"""P6: a hundred machines in parallel (start, one command, stop) against a shell loop; and the client's memory.

python -m benchmarks fleet
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import places
from benchmarks.peers import worker
from benchmarks.report import Aim, interleaved, judge, publish
from gitmachine_local import LocalConfig, _host, _sandbox

ROUNDS = 3
SIZES = (10, 30, 100)
PARALLEL = 16
"""Commands of `xargs` at once; fewer and more were slower on two cores."""
MEMORY_KIB = 256
OURS = "GitMachine"


def loop_of(script: str, count: int, *arguments: str, shell: str = "sh") -> None:
    """Run a script so many times, in parallel."""
    numbers = "".join(f"{number}\n" for number in range(count))
    argv = ["xargs", "-P", str(PARALLEL), "-I", "N", shell, "-ec", script, "N", *arguments]
    subprocess.run(argv, input=numbers.encode(), check=True, stdout=subprocess.DEVNULL)


def measure(
    name: str,
    provider: str,
    options: Mapping[str, object],
    peer: Callable[[int], None],
    peer_name: str,
    others: Mapping[str, Callable[[int], None]] | None = None,
) -> None:
    """Publish a fleet at each size, then the memory; `others` have no aim, and tell where the time goes."""
    for count in SIZES:
        with worker(
            "fleet", python=sys.executable, provider=provider, options=options, work="run", count=count
        ) as ours:
            contenders: dict[str, Callable[[], float | None]] = {peer_name: partial(peer, count)}
            contenders |= {other: partial(run, count) for other, run in (others or {}).items()}
            contenders[OURS] = ours
            aims = [Aim(OURS, peer_name, at_most=1.1)] if count == SIZES[-1] else []
            publish(f"p6-{name}, {count} machines", interleaved(contenders, ROUNDS), against=peer_name, aims=aims)
    given = {"provider": provider, "options": options, "work": "memory", "count": 50}
    with worker("fleet", python=sys.executable, **given) as idle:
        judge(f"p6-{name}", "KiB of the client for an idle machine", idle() / 1024, at_most=MEMORY_KIB)


def local() -> None:
    """Measure sandboxes on this host; the loop's have no supervisor, and cannot be entered again.

    The loop's sandbox shows less than ours, and hides less. So the loop runs with exactly our arguments too, once with
    the same command in it, and once with no more than an interpreter that ends at once: no supervisor in Python can be
    cheaper.
    """
    script = (
        "home=$(mktemp -d); bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink "
        'usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp --bind "$home" /home/user '
        'sh -c true; rm -rf "$home"'
    )
    loop = f"xargs -P {PARALLEL} bwrap"
    with tempfile.TemporaryDirectory() as place:
        python = shlex.quote(str(_sandbox.interpreter().executable))
        others = {
            f"{loop}, our sandbox": our_sandbox(Path(place), "sh -c true"),
            f"{loop}, our sandbox, only a Python in it": our_sandbox(Path(place), f"{python} -I -S -c pass"),
        }
        measure("local", "local", {}, partial(loop_of, script), loop, {} if shutil.which("bash") is None else others)


def our_sandbox(place: Path, command: str) -> Callable[[int], None]:
    """Return the loop with the arguments that a local machine gives to bubblewrap."""
    config = LocalConfig()
    shown = _host.shown(network=False)
    sources = dict(zip(shown.copies, shown.copies, strict=True))
    for path, data in _sandbox.contents(config).items():
        sources[path] = str(place / path.replace("/", "-"))
        Path(sources[path]).write_bytes(data)
    files = {path: 10 + number for number, path in enumerate(sources)}
    home, prefix = Path("$home"), _sandbox.interpreter().prefix
    options = _sandbox.arguments(config, shown=shown, home=home, prefix=prefix, files=files)
    words = " ".join('"$home"' if option == str(home) else shlex.quote(option) for option in options)
    opened = " ".join(f"{files[path]}<{shlex.quote(source)}" for path, source in sources.items())
    script = f'home=$(mktemp -d); bwrap {words} {command} {opened}; rm -rf "$home"'
    return lambda count: loop_of(script, count, shell="bash")  # dash knows descriptors of one digit only


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
