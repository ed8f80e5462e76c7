"""P4: one large file and ten thousand small ones, into a machine and out of it, against `docker cp`.

python -m benchmarks transfers [docker] [ssh] [e2b] [1 GiB] [...] [again]

Without words everything is measured; `again` copies in place of the copies of the turn before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import places
from benchmarks.peers import worker
from benchmarks.report import Aim, interleaved, publish
from gitmachine import GitMachine

ANEW = "again" not in sys.argv
"""Whether each copy is made where nothing is. A copy in place of another one is another thing: ours replaces a file in
one step, with the data of the new one on its way to the disk before (which ext4 sees to); `docker cp` removes first."""
Turn = Callable[[], float | None]

ROUNDS = 3
OURS = "GitMachine"
FILES = {"64 MiB": 64 << 20, "256 MiB": 256 << 20, "1 GiB": 1 << 30}
WAYS = ("upload", "download")
TREES = {"100 files": 100, "1 000 files": 1_000, "10 000 files": 10_000}


def large_file(path: Path, count: int) -> Path:
    """Make a file that does not compress."""
    block = (b"".join(number.to_bytes(8, "little") for number in range(1 << 17))) * 1  # 1 MiB
    with path.open("wb") as file:
        for _ in range(count >> 20):
            file.write(block)
    return path


def small_files(path: Path, count: int) -> Path:
    """Make files of about a kilobyte, a hundred in each directory."""
    for number in range(count):
        folder = path / f"d{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number}").write_bytes(b"%d\n" % number * 150)
    return path


def aside(path: str) -> str:
    """Return the script that gets a copy out of the way: a tree only moves, since ext4 is slow after many removals."""
    return f"if [ -d {path} ]; then mv {path} $(mktemp -d {path}.XXXXXX)/; else rm -f {path}; fi"


def _turns(contenders: dict[str, Turn], clear: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Let the contenders take turns, each with nothing left to be written by the one before, and nothing in its way.

    What is written goes to the disk for a while after; of a gigabyte and more that costs whoever comes next, more than
    what it does itself. Writing it out is nobody's time.
    """

    def settled(name: str, run: Turn) -> Turn:
        def turn() -> float:
            if name in clear and ANEW:
                clear[name]()
            os.sync()
            began = time.perf_counter()
            own = run()
            return time.perf_counter() - began if own is None else own

        return turn

    return interleaved({name: settled(name, run) for name, run in contenders.items()}, ROUNDS)


def docker(place: Path, sources: dict[str, Path]) -> None:
    """Measure both ways against `docker cp`."""
    with places.docker() as engine, ExitStack() as stack:
        if engine is None:
            return
        container = stack.enter_context(engine.container())
        options = {"provider": "local_docker", "options": engine.options}
        back = place / "back"
        for name, source in sources.items():
            with ExitStack() as machines:
                start = partial(worker, "machine", python=sys.executable, anew=ANEW, **options)
                up = machines.enter_context(start(work="upload", source=str(source), target="/tmp/up"))
                given = {"local": str(source), "source": "/tmp/down", "target": str(back / f"ours-{source.name}")}
                down = machines.enter_context(start(work="download", **given))
                theirs = str(back / f"theirs-{source.name}")
                back.mkdir(exist_ok=True)
                cp = partial(engine.run, "cp", "-q")
                inside = f"{container}:/tmp/{source.name}"
                # A directory that is there already becomes the parent of what is copied, so its contents are named.
                there = f"{source}/." if source.is_dir() else str(source)
                from_there = f"{inside}/." if source.is_dir() else inside
                contenders: dict[str, Turn] = {
                    "docker cp, in": partial(cp, there, inside),
                    f"{OURS}, in": up,
                    "docker cp, out": partial(cp, from_there, theirs),
                    f"{OURS}, out": down,
                }
                aims = []
                if name in {"1 GiB", "10 000 files"}:
                    aims = [Aim(f"{OURS}, {way}", f"docker cp, {way}", at_most=1) for way in ("in", "out")]
                clear = {
                    "docker cp, in": partial(engine.run, "exec", container, "sh", "-c", aside(f"/tmp/{source.name}")),
                    "docker cp, out": partial(_run, ["sh", "-c", aside(theirs)]),
                }
                publish(f"p4-docker, {name}", _turns(contenders, clear), against="docker cp, in", aims=aims)


def ssh(place: Path, sources: dict[str, Path]) -> None:
    """Measure both ways against `scp` and `rsync`, each on one shared connection."""
    with places.ssh(place) as server:
        if server is None:
            return
        scp, shell = server.command("scp"), " ".join(server.command())
        for name, source in sources.items():
            with ExitStack() as machines:
                ours = {"provider": "ssh", "options": server.options, "anew": ANEW}
                start = partial(worker, "machine", python=sys.executable, **ours)
                up = machines.enter_context(start(work="upload", source=str(source), target=f"{place.name}/up"))
                given = {
                    "local": str(source),
                    "source": f"{place.name}/down",
                    "target": str(place / f"ours-{source.name}"),
                }
                down = machines.enter_context(start(work="download", **given))
                # rsync would skip what is there already.
                rsync = ["rsync", "-a", "--ignore-times", "--whole-file", "-e", shell]
                remote = f"{server.there}:{place.name}"
                _run([*server.command(), server.there, f"mkdir -p {place.name}"])
                inside = f"{source}/" if source.is_dir() else str(source)
                theirs = place / f"theirs-{source.name}"
                theirs.mkdir()
                contenders: dict[str, Turn] = {
                    "scp, in": partial(_run, [*scp, "-r", str(source), f"{remote}/"]),
                    "rsync, in": partial(_run, [*rsync, inside, f"{remote}/{source.name}" + "/" * source.is_dir()]),
                    f"{OURS}, in": up,
                    "scp, out": partial(_run, [*scp, "-r", f"{remote}/{source.name}", f"{theirs}/"]),
                    "rsync, out": partial(_run, [*rsync, f"{remote}/{source.name}", f"{theirs}/"]),
                    f"{OURS}, out": down,
                }
                aims = []
                if name in {"1 GiB", "10 000 files"}:
                    pairs = [(way, peer) for way in ("in", "out") for peer in ("scp", "rsync")]
                    aims = [Aim(f"{OURS}, {way}", f"{peer}, {way}", at_most=1) for way, peer in pairs]
                inner = partial(_run, [*server.command(), server.there, aside(f"{place.name}/{source.name}")])
                outer = partial(_run, ["sh", "-c", aside(str(theirs / source.name))])
                clear = {"scp, in": inner, "rsync, in": inner, "scp, out": outer, "rsync, out": outer}
                publish(f"p4-ssh, {name}", _turns(contenders, clear), against="scp, in", aims=aims)
            _run([*server.command(), server.there, f"rm -rf {place.name}"])
            shutil.rmtree(theirs)


def e2b(place: Path, sources: dict[str, Path]) -> None:
    """Measure both ways against E2B's SDK, on the emulator."""
    with places.e2b() as environ, ExitStack() as stack:
        own = {"api_key": environ["E2B_API_KEY"], "api_url": environ["E2B_API_URL"]}
        options = {**own, "sandbox_url": environ["E2B_SANDBOX_URL"]}
        gm = stack.enter_context(GitMachine("e2b", repository=str(_repository(place)), session="p4", options=options))
        for name, source in sources.items():
            with ExitStack() as peers:
                start = partial(worker, "machine", python=sys.executable, provider="e2b", options=options)
                up = peers.enter_context(start(work="upload", source=str(source), target="/home/user/up"))
                here = {"local": str(source), "source": "/home/user/down", "target": str(place / f"e2b-{source.name}")}
                down = peers.enter_context(start(work="download", **here))
                theirs = {"source": str(source), "target": str(place / "sdk"), "sandbox": gm.id, **options}
                sdk = {way: peers.enter_context(worker("e2b_sdk_files", work=way, **theirs)) for way in WAYS}
                contenders: dict[str, Turn] = {
                    "E2B's SDK, in": sdk["upload"],
                    f"{OURS}, in": up,
                    "E2B's SDK, out": sdk["download"],
                    f"{OURS}, out": down,
                }
                aims = [Aim(f"{OURS}, {way}", f"E2B's SDK, {way}", at_most=1) for way in ("in", "out")]
                publish(f"p4-e2b, {name}", _turns(contenders, {}), against="E2B's SDK, in", aims=aims)


def _repository(place: Path) -> Path:
    remote = place / "p4.git"
    places.make_repository(remote, 3)
    return remote


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True)


def main() -> None:
    """Measure every provider and size that can be had, or those that are named."""
    measures = {"docker": docker, "ssh": ssh, "e2b": e2b}
    sizes = [size for size in (*FILES, *TREES) if size in sys.argv] or [*FILES, *TREES]
    with places.folder() as place:
        sources = {name: large_file(place / f"file{count}", count) for name, count in FILES.items() if name in sizes}
        trees = {name: small_files(place / f"tree{count}", count) for name, count in TREES.items() if name in sizes}
        sources |= trees
        for name in [name for name in measures if name in sys.argv] or measures:
            large = {"256 MiB", "1 GiB", "10 000 files"} if name == "e2b" else set[str]()
            measures[name](place, {size: sources[size] for size in sources if size not in large})


if __name__ == "__main__":
    main()
