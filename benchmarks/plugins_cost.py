"""What installed plugins cost every command: ``--version`` and ``providers``, with 50 dummy plugins and with none.

Each dummy is a distribution with metadata and a module of its own, and implements three hooks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import interleaved, publish

PLUGINS = 50
ROUNDS = 15

MODULE = '''\
"""A plugin that does nothing."""

from __future__ import annotations

from gitmachine import ProviderSpec, hookimpl


@hookimpl
def gitmachine_register_providers():
    return [ProviderSpec(name="dummy-{0}", factory="dummy_{0}:make", config="dummy_{0}:Config", summary="nothing")]


@hookimpl
def gitmachine_commit_message(changes, reason):
    return None


@hookimpl
async def gitmachine_command_finished(event):
    return None
'''


def _install(site: Path) -> None:
    for number in range(PLUGINS):
        info = site / f"dummy_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dummy-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gitmachine]\ndummy-{number} = dummy_{number}\n")
        (site / f"dummy_{number}.py").write_text(MODULE.format(number))


def _command(site: str, *args: str) -> Callable[[], None]:
    environment = {**os.environ, "PYTHONPATH": site}

    def run() -> None:
        argv = [sys.executable, "-m", "gitmachine", *args]
        # No timeout: waiting with one is done in steps of up to 50 ms.
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)

    return run


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as site:
        _install(Path(site))
        for name, args in {"version": ["--version"], "providers": ["providers", "--json"]}.items():
            without, with_plugins = f"{name}, no dummy plugin", f"{name}, {PLUGINS} dummy plugins"
            contenders = {without: _command(empty, *args), with_plugins: _command(site, *args)}
            aims = {with_plugins: 1.1 if name == "version" else 1.5}
            publish(f"plugins-cost-{name}", interleaved(contenders, ROUNDS), against=without, aims=aims)


if __name__ == "__main__":
    main()
