"""Run every benchmark that this machine allows: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import importlib
import sys

from benchmarks.report import RESULTS

BENCHMARKS = {
    "import_cost": [],
    "plugins_cost": [],
    "session_run": [],
    "local_run": ["--json", str(RESULTS / "local-run.json")],
}
"""Each benchmark's arguments."""


def main(names: list[str]) -> None:
    """Run the benchmarks of these names, or all."""
    RESULTS.mkdir(exist_ok=True)
    for name in names or BENCHMARKS:
        sys.argv = [f"benchmarks/{name}.py", *BENCHMARKS[name]]
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
