"""Run every benchmark that this machine allows: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import importlib
import sys

from benchmarks.report import RESULTS, verdicts, write

BENCHMARKS = {
    "import_cost": [],
    "plugins_cost": [],
    "local_run": ["--json", str(RESULTS / "local-run.json")],
    "warm_channel": [],
    "commands": [],
    "whole_sessions": [],
    "streaming": [],
    "transfers": [],
    "fleet": [],
}
"""Each benchmark's arguments."""


def main(names: list[str]) -> None:
    """Run the benchmarks of these names, or all; say at the end which aims were met."""
    RESULTS.mkdir(exist_ok=True)
    for name in names or BENCHMARKS:
        sys.argv = [f"benchmarks/{name}.py", *BENCHMARKS[name]]
        importlib.import_module(f"benchmarks.{name}").main()
    write("aims", {"aims": verdicts})
    missed = [verdict for verdict in verdicts if not verdict["met"]]
    print(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} aims met")
    for verdict in missed:
        print(f"  MISSED in {verdict['benchmark']}: {verdict['what']} = {verdict['value']:.2f}, aim {verdict['aim']}")


if __name__ == "__main__":
    main(sys.argv[1:])
