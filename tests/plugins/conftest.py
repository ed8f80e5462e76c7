"""Sessions in which the shipped plugins take part. Time budget: no tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, PluginHost
from gitmachine.machine import MachineState
from support.machines import StreamMachine
from support.repos import make_remote


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return make_remote(tmp_path / "remote.git", commits=3)


@pytest.fixture
async def session(remote: Path, tmp_path: Path) -> AsyncIterator[Callable[..., AsyncGitMachine]]:
    """Make sessions with one plugin and its options; whatever still runs at the end is forced to stop."""
    made: list[AsyncGitMachine] = []

    def make(plugin: object, name: str, options: dict[str, Any] | None = None, **keywords: Any) -> AsyncGitMachine:
        host = PluginHost(entry_points=(), options={name: options or {}})
        host.register(plugin, name)
        keywords = {"repository": str(remote), "session": "feature", **keywords}
        made.append(AsyncGitMachine(StreamMachine(tmp_path), plugins=host, **keywords))
        return made[-1]

    yield make
    for gm in made:
        if gm.state in {MachineState.RUNNING, MachineState.PAUSED}:
            await gm.stop(force=True)
