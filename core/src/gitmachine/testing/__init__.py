"""For authors of providers and plugins: a machine for tests, faults on demand, and the kit that says what a machine is.

Nothing here needs pytest but `gitmachine.testing.plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.testing.fake import FakeMachine
    from gitmachine.testing.faults import FaultyMachine
    from gitmachine.testing.kit import MachineConformance

__all__ = ["FakeMachine", "FaultyMachine", "MachineConformance"]

_HOMES = {
    "FakeMachine": "gitmachine.testing.fake",
    "FaultyMachine": "gitmachine.testing.faults",
    "MachineConformance": "gitmachine.testing.kit",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
