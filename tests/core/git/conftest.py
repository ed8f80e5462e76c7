"""Fixtures of the git tests. Time budget: no tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gitmachine.git.host import HostGit
from support.bench import Bench, make_bench

BenchMaker = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BenchMaker]:
    """Make benches in one directory; their machines are stopped afterwards."""
    made: list[Bench] = []

    async def make(address: object, **options: object) -> Bench:
        one = await make_bench(tmp_path, str(address), **options)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.transport.close()
        await one.machine.stop()


@pytest.fixture
def host() -> HostGit:
    return HostGit()
