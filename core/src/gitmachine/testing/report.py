"""The conformance report: what each machine does, as JSON for programs and as lines for people."""

from __future__ import annotations

import json
import platform
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

import gitmachine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["REPORT_FORMAT", "Entry", "make_report", "summary", "write_report"]

REPORT_FORMAT = 1
"""Changes when a reader of the report would have to."""

OUTCOMES = ("passed", "failed", "skipped", "limit")


@attrs.frozen(kw_only=True)
class Entry:
    """How one behaviour came out on one kit.

    Attributes:
        kit: the test class, by its pytest id.
        provider: the machine's provider, or None when no machine could be made.
        machine: the machine's class.
        capabilities: what it declares.
        limits: what the author declares.
        id, group, statement: the behaviour.
        outcome: one of `OUTCOMES`.
        reason: why it did not pass.
        seconds: how long it took.
    """

    kit: str
    provider: str | None
    machine: str | None
    capabilities: tuple[str, ...]
    limits: dict[str, str]
    id: str
    group: str
    statement: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0

    def dump(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return attrs.asdict(self)

    @classmethod
    def load(cls, data: dict[str, Any]) -> Entry:
        """Return the entry that `dump` made the data of."""
        return cls(**{**data, "capabilities": tuple(data["capabilities"])})


def make_report(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the whole report as plain data, machine by machine."""
    kits: dict[str, list[Entry]] = {}
    for entry in entries:
        kits.setdefault(entry.kit, []).append(entry)
    return {
        "format": REPORT_FORMAT,
        "gitmachine": gitmachine.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machines": [_machine(kit, kits[kit]) for kit in sorted(kits)],
    }


def _machine(kit: str, entries: Sequence[Entry]) -> dict[str, Any]:
    counts = Counter(entry.outcome for entry in entries)
    first = next((entry for entry in entries if entry.provider is not None), entries[0])
    return {
        "kit": kit,
        "provider": first.provider,
        "machine": first.machine,
        "version": _version(first.machine),
        "capabilities": list(first.capabilities),
        "limits": first.limits,
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
        "conforms": counts["failed"] == 0,
        "behaviours": [
            {name: getattr(entry, name) for name in ("id", "group", "statement", "outcome", "reason", "seconds")}
            for entry in entries
        ],
    }


def _version(machine: str | None) -> str | None:
    """Return the version of the package that a machine's class comes from, where it is loaded and has one."""
    import sys

    package = sys.modules.get((machine or "").partition(".")[0])
    return getattr(package, "__version__", None)


def summary(report: dict[str, Any]) -> Iterator[str]:
    """Return the lines that people read."""
    for machine in report["machines"]:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in machine["counts"].items() if number)
        yield f"{machine['provider'] or 'no machine'} ({machine['kit'].rpartition('::')[2]}): {counts}"
        for found in machine["behaviours"]:
            if found["outcome"] == "limit":
                yield f"  limit    {found['id']}: {found['reason']}"
        for found in machine["behaviours"]:
            if found["outcome"] == "skipped":
                yield f"  skipped  {found['id']}: {found['reason']}"
        for found in machine["behaviours"]:
            if found["outcome"] == "failed":
                yield f"  failed   {found['id']}: {found['statement']}"


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
