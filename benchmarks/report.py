"""How every benchmark reports: interleaved runs, medians, a table, and JSON."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def interleaved(contenders: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run each contender once a round, in turn, and return the seconds of each run.

    In turn, so that what else the machine does falls on all of them alike; the first round warms caches and is not
    counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if number:
                taken[name].append(time.perf_counter() - began)
    return taken


def publish(name: str, taken: Mapping[str, list[float]], *, against: str, aims: Mapping[str, float]) -> None:
    """Print medians and ratios against one contender; write everything to ``results/<name>.json``."""
    base = statistics.median(taken[against])
    print(f"\n{name} (medians of {len(taken[against])} interleaved runs; ratio against {against})")
    rows = {}
    for contender, seconds in taken.items():
        median = statistics.median(seconds)
        aim = aims.get(contender)
        rows[contender] = {"median_seconds": median, "ratio": median / base, "aim": aim, "seconds": seconds}
        verdict = "" if aim is None else f"   aim <= {aim:g}: {'met' if median / base <= aim else 'MISSED'}"
        print(f"  {contender:40} {median * 1000:9.2f} ms   x {median / base:5.2f}{verdict}")
    RESULTS.mkdir(exist_ok=True)
    record = {
        "name": name,
        "against": against,
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "system": platform.system(),
        "contenders": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
