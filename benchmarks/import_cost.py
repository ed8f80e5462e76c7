"""What start-up costs: `import gitmachine`, `gitmachine --version`, `gitmachine providers`, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from benchmarks.report import interleaved, publish

ROUNDS = 25


def _python(*args: str) -> Callable[[], None]:
    def run() -> None:
        # No timeout: waiting with one is done in steps that double up to 50 ms, and one would measure those.
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)

    return run


def main() -> None:
    """Measure and report."""
    imports = {
        "nothing": _python("-c", ""),
        "import asyncio, attrs, pluggy": _python("-c", "import asyncio, attrs, pluggy"),
        "import gitmachine": _python("-c", "import gitmachine"),
        "from gitmachine import AsyncGitMachine": _python("-c", "from gitmachine import AsyncGitMachine"),
    }
    aims = {"import gitmachine": 1.2}
    publish("import-cost", interleaved(imports, ROUNDS), against="import asyncio, attrs, pluggy", aims=aims)
    commands = {
        "import asyncio, attrs, pluggy": imports["import asyncio, attrs, pluggy"],
        "gitmachine --version": _python("-m", "gitmachine", "--version"),
        "gitmachine providers --json": _python("-m", "gitmachine", "providers", "--json"),
    }
    publish("start-up", interleaved(commands, ROUNDS), against="import asyncio, attrs, pluggy", aims={})


if __name__ == "__main__":
    main()
