"""What a fake machine is made of; several objects in one process may hold one, as clients hold a real machine."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.testing.fake.copies import remove_tree
from gitmachine.testing.fake.tree import ProcessTree

if TYPE_CHECKING:
    from gitmachine.errors import MachineLostError
    from gitmachine.testing.fake.process import FakeProcess
    from gitmachine.testing.fake.script import ScriptedAnswer

__all__ = ["Body", "find_body"]

_bodies: dict[str, Body] = {}


def find_body(machine_id: str) -> Body | None:
    """Return the machine of this process that has this id."""
    return _bodies.get(machine_id)


class Body:
    """A directory, the processes that were started in it, and what it was told to do."""

    def __init__(self, parent: Path | None) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="fake-machine-", dir=parent))
        self.id = re.sub(r"\W", "-", self.root.name)
        self.home = self.root / "home"
        self.home.mkdir()
        self.tree = ProcessTree()
        self.paused = False
        self.dead: MachineLostError | None = None
        self.ended = False
        self.scripted: list[ScriptedAnswer] = []
        self._live: list[FakeProcess] = []
        self._adopted: dict[int, asyncio.AbstractEventLoop] = {}
        _bodies[self.id] = self

    def hold(self, process: FakeProcess) -> None:
        """Keep a process until the machine ends or nobody can read from it any more."""
        self._live = [process, *(live for live in self._live if not live.released)]

    def adopt(self, fd: int) -> None:
        """Read a pipe that a child left behind still holds, so that the child is not stopped by it."""
        loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._adopted[fd] = loop
        loop.add_reader(fd, self._drain, fd)

    def _drain(self, fd: int) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.late_output(data)
        else:
            self._abandon(fd)

    def late_output(self, data: bytes) -> None:
        """Take what a child wrote after its command had ended: nobody's output."""

    def _abandon(self, fd: int) -> None:
        loop = self._adopted.pop(fd)
        if not loop.is_closed():
            loop.remove_reader(fd)
        os.close(fd)

    def lose(self, error: MachineLostError) -> None:
        """Tell everybody who waits that the machine is gone."""
        self.dead = error
        for process in self._live:
            process.lose(error)

    async def end(self) -> None:
        """Kill every process and remove everything."""
        self.ended = True
        await asyncio.to_thread(self.tree.kill_all)
        for process in self._live:
            process.release()
        self._live.clear()
        for fd in list(self._adopted):
            self._abandon(fd)
        await asyncio.to_thread(remove_tree, self.root)
        _bodies.pop(self.id, None)
