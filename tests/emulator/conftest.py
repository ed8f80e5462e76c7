"""What the emulator's tests share: one emulator for a module, and a client of its raw interface.

Time budget: no tests here; an emulator starts in under a second.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.e2b import Emulator, serving
from support.e2b.raw import Raw


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with serving() as running:
        yield running


@pytest.fixture
def raw(emulator: Emulator) -> Iterator[Raw]:
    """Give a client, and take faults and sandboxes away afterwards."""
    with Raw(emulator) as client:
        yield client
    emulator.faults.clear()
