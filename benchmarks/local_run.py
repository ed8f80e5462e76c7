"""P1 for the local provider: ``true`` in a running machine against ``sh -c true`` on the host, side by side.

    python benchmarks/local_run.py [--rounds N] [--json FILE]

Prints medians and their ratio. The turns alternate, so that a busy moment of the machine hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from pathlib import Path

from gitmachine import ExecRequest
from gitmachine_local import LocalConfig, LocalMachine


async def measure(isolation: str, rounds: int) -> dict[str, float]:
    """Return the medians, in milliseconds, and the ratios to ``sh -c`` by subprocess."""
    began = time.perf_counter()
    machine = LocalMachine(LocalConfig(isolation=isolation))
    await machine.start()
    started = time.perf_counter()
    times: dict[str, list[float]] = {"execute": [], "sh": [], "asyncio": []}
    try:
        for turn in range(rounds + 10):
            marks = [time.perf_counter()]
            await machine.execute(ExecRequest(shell="true"))
            marks.append(time.perf_counter())
            subprocess.run(["sh", "-c", "true"], capture_output=True, check=True)  # noqa: ASYNC221  # what is compared
            marks.append(time.perf_counter())
            process = await asyncio.create_subprocess_exec("sh", "-c", "true", stdout=subprocess.PIPE)
            await process.communicate()
            marks.append(time.perf_counter())
            if turn >= 10:
                for name, begin, end in zip(times, marks, marks[1:], strict=False):
                    times[name].append((end - begin) * 1000)
    finally:
        await machine.stop()
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "start_ms": (started - began) * 1000,
        **{f"{name}_ms": value for name, value in medians.items()},
        "ratio_to_sh": medians["execute"] / medians["sh"],
        "ratio_to_asyncio": medians["execute"] / medians["asyncio"],
    }


def main() -> None:
    """Measure with a sandbox and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {isolation: asyncio.run(measure(isolation, options.rounds)) for isolation in ("bubblewrap", "none")}
    for isolation, figures in results.items():
        print(f"{isolation:12}" + "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
