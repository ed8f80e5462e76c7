"""A remote, sessions on it, and work that its remote rejected. Time budget: none of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from gitmachine import AsyncGitMachine
from gitmachine.errors import PushError
from gitmachine.machine import MachineState
from support.machines import StreamMachine
from support.repos import add_commit, make_remote


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return make_remote(tmp_path / "remote.git")


@pytest.fixture
async def make(remote: Path, tmp_path: Path) -> AsyncIterator[Callable[..., AsyncGitMachine]]:
    """Make sessions on the sample remote; whatever still runs at the end is forced to stop."""
    made: list[AsyncGitMachine] = []

    def _make(**keywords: Any) -> AsyncGitMachine:
        keywords = {"repository": f"file://{remote}", "session": "feature", **keywords}
        gm = AsyncGitMachine(StreamMachine(tmp_path), **keywords)
        made.append(gm)
        return gm

    yield _make
    for gm in made:
        if gm.state in {MachineState.RUNNING, MachineState.PAUSED}:
            await gm.stop(force=True)


@attrs.frozen
class Rejected:
    """A session whose stop could not publish, the machine being kept."""

    gm: AsyncGitMachine
    theirs: str


@pytest.fixture
async def rejected(make: Callable[..., AsyncGitMachine], remote: Path) -> Rejected:
    """Have a session's work rejected: somebody else pushed to its branch."""
    gm = make(name="mine")
    await gm.start()
    await gm.write_file("mine.txt", "my work")
    theirs = add_commit(remote, "feature", {"theirs.txt": b"theirs"}, start="refs/heads/main^0")
    with pytest.raises(PushError):
        await gm.stop()
    return Rejected(gm, theirs)
