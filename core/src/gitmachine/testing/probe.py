"""Load one plugin in a fresh interpreter and tell what that did; run as ``python -m gitmachine.testing.probe``.

It is not in the package that uses it, because that loads much; what is loaded here already, no plugin is blamed for.
Reads a JSON document from its input (the search path, and the plugin) and writes one to its output.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import gitmachine.hookspecs
import gitmachine.provider  # noqa: F401  # what every plugin may import

__all__ = ["main"]


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    sys.path[:] = question["path"]
    out, sys.stdout = sys.stdout, sys.stderr  # a plugin may print what it likes
    answer: dict[str, Any] = _loaded(question["reference"])
    if not answer["error"]:
        from gitmachine.testing.trial.inspection import inspect_plugin

        answer |= inspect_plugin(question)
    json.dump(answer, out)


def _loaded(reference: str) -> dict[str, Any]:
    before = set(sys.modules)
    began = time.perf_counter()
    error = ""
    module, _, attribute = reference.partition(":")
    try:
        value: Any = import_module(module.strip())
        for part in filter(None, attribute.strip().split(".")):
            value = getattr(value, part)
    except (Exception, SystemExit) as problem:  # noqa: BLE001  # whatever an import raises is what is reported
        error = f"{type(problem).__name__}: {problem}"
    seconds = time.perf_counter() - began
    return {"error": error, "seconds": seconds, "modules": sorted(set(sys.modules) - before)}


if __name__ == "__main__":
    main()
