"""The pytest plugin of the conformance kit: ``pytest_plugins = ["gitmachine.testing.plugin"]``.

It adds ``--conformance-report FILE`` and lists, at the end of a run, what each machine did and what it declares as its
limits. The kit itself works without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gitmachine.testing.kit import Behaviour, MachineConformance, NotApplicable
from gitmachine.testing.report import Entry, make_report, summary, write_report

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ConformanceCollector"]

_PROPERTY = "gitmachine_conformance"
_COLLECTOR = "gitmachine-conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("gitmachine")
    group.addoption(
        "--conformance-report",
        metavar="FILE",
        default=None,
        help="write what the machines under test do and do not do to FILE, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect what the kit's tests find."""
    if not config.pluginmanager.has_plugin(_COLLECTOR):
        config.pluginmanager.register(ConformanceCollector(config), _COLLECTOR)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what is known about a behaviour into the test's report, which travels between processes."""
    error = call.excinfo.value if call.excinfo is not None else None  # pytest replaces those of unittest
    report = yield
    found = _entry(item, error, report)
    if found is not None:
        report.user_properties.append((_PROPERTY, found))
    return report


class ConformanceCollector:
    """Gathers the entries of one run, wherever the tests ran."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.entries: list[Entry] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take an entry from a test's report."""
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, dict):
                self.entries.append(Entry.load(value))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the report, and say what there is to say about each machine."""
        target = self._config.getoption("conformance_report")
        if not self.entries or hasattr(self._config, "workerinput"):
            return
        report = make_report(self.entries)
        terminalreporter.section("machine conformance", sep="-")
        for line in summary(report):
            terminalreporter.write_line(line)
        if target is not None:
            write_report(Path(target), report)
            terminalreporter.write_line(f"report: {target}")


def _entry(item: pytest.Item, error: BaseException | None, report: pytest.TestReport) -> dict[str, Any] | None:
    """Return what to report about an item, or None when it is no behaviour, or not at its end."""
    kit = getattr(item, "cls", None)
    behaviour = getattr(getattr(item, "function", None), "behaviour", None)
    if not (isinstance(kit, type) and issubclass(kit, MachineConformance) and isinstance(behaviour, Behaviour)):
        return None
    if report.when != "call" and report.passed:
        return None
    outcome: str = report.outcome
    reason = ""
    if isinstance(error, NotApplicable):
        outcome, reason = "limit" if error.limit else "skipped", error.reason
    elif error is not None:
        reason = f"{type(error).__name__}: {error}"
    return Entry(
        kit=item.nodeid.rpartition("::")[0],
        provider=kit.observed.get("provider"),
        machine=kit.observed.get("class"),
        capabilities=tuple(kit.observed.get("capabilities", ())),
        limits=dict(kit.limits),
        id=behaviour.id,
        group=behaviour.group,
        statement=behaviour.statement,
        outcome=outcome,
        reason=reason,
        seconds=round(report.duration, 3),
    ).dump()
