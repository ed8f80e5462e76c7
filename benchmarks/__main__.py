"""Run every benchmark that this machine allows: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = ("import_cost", "local_run")


def main(names: list[str]) -> None:
    """Run the benchmarks of these names, or all."""
    for name in names or BENCHMARKS:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
