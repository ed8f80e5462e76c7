"""How every benchmark reports: interleaved runs, medians, a table with aims, and JSON."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

RESULTS = Path(__file__).resolve().parent / "results"

verdicts: list[dict[str, object]] = []
"""Every aim that was looked at in this run, with whether it was met."""


@attrs.frozen
class Aim:
    """What a figure is to be: a ratio of medians, contender to peer, at most or at least so much."""

    contender: str
    peer: str
    at_most: float | None = None
    at_least: float | None = None

    def wanted(self) -> str:
        """The aim in words."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def met(self, ratio: float) -> bool:
        """Whether a ratio is what it is to be."""
        return ratio <= self.at_most if self.at_most is not None else ratio >= (self.at_least or 0)


def interleaved(contenders: Mapping[str, Callable[[], float | None]], rounds: int) -> dict[str, list[float]]:
    """Run each contender once a round, in turn, and return the seconds of each run.

    In turn, so that what else the machine does falls on all of them alike; the first round warms caches and is not
    counted. A contender that returns a figure has measured itself, in a process of its own.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            own = run()
            seconds = time.perf_counter() - began if own is None else own
            if number:
                taken[name].append(seconds)
    return taken


def publish(
    name: str,
    taken: Mapping[str, list[float]],
    *,
    against: str,
    aims: Sequence[Aim] | Mapping[str, float] = (),
    notes: Mapping[str, object] | None = None,
) -> None:
    """Print medians, ratios against one contender and aims; write everything to ``results/<name>.json``.

    Aims given as a mapping are the highest ratios against `against`.
    """
    if isinstance(aims, Mapping):
        aims = [Aim(contender, against, at_most=ratio) for contender, ratio in aims.items()]
    medians = {contender: statistics.median(seconds) for contender, seconds in taken.items()}
    print(f"\n{name} (medians of {len(taken[against])} interleaved runs; ratio against {against})")
    for contender, median in medians.items():
        print(f"  {contender:52} {median * 1000:11.2f} ms   x {median / medians[against]:7.2f}")
    judged = [_judged(name, aim, medians[aim.contender] / medians[aim.peer]) for aim in aims if aim.peer in medians]
    for key, value in (notes or {}).items():
        print(f"  {key}: {value}")
    rows = {
        contender: {
            "median_seconds": medians[contender],
            "ratio": medians[contender] / medians[against],
            "seconds": seconds,
        }
        for contender, seconds in taken.items()
    }
    record = {"name": name, "against": against, "contenders": rows, "aims": judged, "notes": dict(notes or {})}
    write(name, record)


def judge(name: str, what: str, value: float, *, at_most: float) -> dict[str, object]:
    """Print and keep an aim for something that is not a ratio of medians, such as memory."""
    verdict: dict[str, object] = {
        "benchmark": name,
        "what": what,
        "value": value,
        "aim": f"<= {at_most:g}",
        "met": value <= at_most,
    }
    print(f"  {what}: {value:.2f}; aim <= {at_most:g}: {'met' if value <= at_most else 'MISSED'}")
    verdicts.append(verdict)
    return verdict


def write(name: str, record: Mapping[str, object]) -> None:
    """Write a benchmark's figures, with the kind of machine they are from, to ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system()}
    (RESULTS / f"{name}.json").write_text(json.dumps({**machine, **record}, indent=2) + "\n", encoding="utf-8")


def _judged(name: str, aim: Aim, ratio: float) -> dict[str, object]:
    met = aim.met(ratio)
    print(f"  {aim.contender} / {aim.peer} = {ratio:.2f}; aim {aim.wanted()}: {'met' if met else 'MISSED'}")
    verdict: dict[str, object] = {
        "benchmark": name,
        "what": f"{aim.contender} / {aim.peer}",
        "value": ratio,
        "aim": aim.wanted(),
        "met": met,
    }
    verdicts.append(verdict)
    return verdict
