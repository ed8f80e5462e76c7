"""Run every benchmark that this machine allows, or those that are named, each with words of its own behind it.

python -m benchmarks [name [word ...] ...]
"""

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


def wanted(words: list[str]) -> list[tuple[str, list[str]]]:
    """Return the benchmarks that are asked for, with their arguments."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word in BENCHMARKS:
            found.append((word, [*BENCHMARKS[word]]))
        elif found:
            found[-1][1].append(word)
        else:
            raise SystemExit(f"there is no benchmark {word!r}; there are {', '.join(BENCHMARKS)}")
    return found or list(BENCHMARKS.items())


def main(words: list[str]) -> None:
    """Run what is asked for; say at the end which aims were met."""
    RESULTS.mkdir(exist_ok=True)
    for name, arguments in wanted(words):
        sys.argv = [f"benchmarks/{name}.py", *arguments]
        importlib.import_module(f"benchmarks.{name}").main()
    write("aims", {"aims": verdicts})
    missed = [verdict for verdict in verdicts if not verdict["met"]]
    print(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} aims met")
    for verdict in missed:
        print(f"  MISSED in {verdict['benchmark']}: {verdict['what']} = {verdict['value']:.2f}, aim {verdict['aim']}")


if __name__ == "__main__":
    main(sys.argv[1:])
