"""One invariant under random operations, each process of which is killed at a random instant.

Every change that was made is in the remote, in the host's session repositories or rescues, or in a machine that the
journal lists; and in the end nothing is left running.
Time budget: 60 s.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitmachine.catalog import attach
from gitmachine.errors import MachineFileError
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.upkeep import collect_garbage, recover_all
from support.crashing import crash, end_local_machines, processes_under
from support.repos import add_commit

pytestmark = [pytest.mark.requires("linux")]


@pytest.fixture(autouse=True)
def machines_end(gitmachine_home: Path) -> Iterator[None]:
    """Have no machine outlive a test that fails."""
    yield
    end_local_machines()


INSTANTS = (
    ("gitmachine.git.host:HostGit.run", 40),
    ("gitmachine.state.journal:Journal._write", 40),
    ("gitmachine_local.machine:LocalMachine.execute", 15),
    ("gitmachine_local._client:Channel.send", 30),
    ("gitmachine_local._processes:is_alive", 20),
    ("gitmachine.git.remote:Remote.push", 2),
    ("gitmachine_local._records:Record.save", 3),
)
"""What a process may be at when it dies, and up to which of the calls."""


def holds(repository: Path, name: str) -> bool:
    """Tell whether any commit that a ref of a repository leads to ever had a file."""
    argv = ["git", "-C", str(repository), "log", "--all", "--format=%H", "--max-count=1", "--", name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return bool(done.stdout.strip())


async def in_a_machine(names: set[str]) -> set[str]:
    """Return the files that a live machine of the journal has."""
    async with await Journal.aopen(Places.default()) as journal:
        live = await journal.machines()
    found = set()
    for record in live:
        gm = await attach(record.key, adopt=False)
        paused = gm.state == "paused"
        if paused:
            await gm.resume()
        for name in names:
            try:
                await gm.read_file(name)
            except MachineFileError:
                continue
            found.add(name)
        if paused:
            await gm.pause()
        await gm.close()
    return found


async def lost(names: set[str], remote: Path) -> set[str]:
    """Return the files that are nowhere any more."""
    repositories = [remote, *Places.default().sessions.glob("*.git")]
    left = {name for name in names if not any(holds(repository, name) for repository in repositories)}
    return left - await in_a_machine(left) if left else set()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_lost_and_nothing_orphaned_wherever_processes_are_killed(
    seed: int, remote: Path, gitmachine_home: Path
) -> None:
    choice = random.Random(seed)
    written: set[str] = set()
    for number in range(5):
        target, most = choice.choice(INSTANTS)
        at = (target, choice.choice(["before", "after"]), None, choice.randint(1, most))
        plan = {"repository": f"file://{remote}", "wander": seed * 100 + number, "at": at}
        written |= set((await asyncio.to_thread(crash, plan)).split())
        if choice.random() < 0.2:
            files = {f"theirs-{number}.txt": b"theirs"}
            await asyncio.to_thread(add_commit, remote, "feature", files, start="refs/heads/main^0")
        for recovery in await recover_all():
            assert recovery.problem is None
        assert await lost(written, remote) == set(), at

    await collect_garbage(force=True)
    async with await Journal.aopen(Places.default()) as journal:
        for record in await journal.machines():  # left on purpose by nobody's leave: adopted by the last that acted
            await (await attach(record.key)).stop(force=True)
        assert await journal.machines() == []
    assert await lost({*written, "never-written.txt"}, remote) == {"never-written.txt"}
    deadline = time.monotonic() + 60
    while left := await asyncio.to_thread(processes_under, gitmachine_home):
        assert time.monotonic() < deadline, f"orphaned: {left}"
        await asyncio.sleep(0.05)
