"""The warm channel by itself, on this host's shells: what a command costs against ``sh -c``, in turns.

    python benchmarks/warm_channel.py [--rounds N] [--shell dash]

Prints medians and their ratios to ``sh -c true`` by asyncio. No provider and no connection is in it: what it shows is
what the shell and the channel take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gitmachine import CommandTimeoutError, ExecRequest, Process
from gitmachine.machines.channel import Receiver, WarmPool

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.channels import SHELLS, ShellDuplex

PATH = "/usr/local/bin:/usr/bin:/bin"


async def local() -> None:
    """Run what everything is compared with."""
    process = await asyncio.create_subprocess_exec("sh", "-c", "true", stdout=asyncio.subprocess.PIPE)
    await process.communicate()


async def measure(shell: str, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds."""

    async def connect(receiver: Receiver) -> ShellDuplex:
        return await ShellDuplex.start(receiver, SHELLS[shell], {"PATH": PATH, "HOME": "/tmp"})  # a home

    async def plain(request: ExecRequest) -> Process:
        raise RuntimeError(f"the channel did not serve {request}")

    pool = WarmPool(connect, plain=plain)
    assert await pool.warm(), pool.problem

    def run(**fields: object) -> Callable[[], Awaitable[object]]:
        request = ExecRequest(**{"shell": "true", **fields})  # type: ignore[arg-type]  # fields of a request
        env = {"ODD.NAME": "x"} if fields.get("env") else {}
        return lambda: pool.execute(request, cwd="/", env=env)

    async def killed() -> None:
        began = time.perf_counter()
        with contextlib.suppress(CommandTimeoutError):
            await run(shell="sleep 60", timeout=0.05)()
        kills.append(time.perf_counter() - began - 0.05)

    kills: list[float] = []
    turns: dict[str, Callable[[], Awaitable[object]]] = {
        "sh -c": local,
        "true": run(),
        "odd variable": run(env={"ODD.NAME": "x"}),
        "input 16 KB": run(shell="cat", stdin=b"x" * 16_000),
        "input 64 KB": run(shell="cat", stdin=b"x" * 64_000),
        "input 4 MB": run(shell="cat", stdin=b"x" * 4_000_000),
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    try:
        for turn in range(rounds + 10):
            for name, work in turns.items():
                began = time.perf_counter()
                await work()
                if turn >= 10:
                    times[name].append(time.perf_counter() - began)
        for _ in range(max(3, rounds // 20)):
            await killed()
        burst = time.perf_counter()
        await asyncio.gather(*(run()() for _ in range(100)))
        times["100 at once"] = [time.perf_counter() - burst]
    finally:
        await pool.close()
    times["kill"] = kills
    return {name: statistics.median(values) * 1000 for name, values in times.items()}


def main() -> None:
    """Measure each shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--shell", choices=SHELLS, action="append")
    options = parser.parse_args()
    for shell in options.shell or SHELLS:
        medians = asyncio.run(measure(shell, options.rounds))
        one = medians["sh -c"]
        print(shell)
        for name, value in medians.items():
            print(f"  {name:14} {value:8.2f} ms {value / one:8.2f} x")


if __name__ == "__main__":
    main()
