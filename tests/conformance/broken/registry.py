"""Which machine is broken in which way: one defect each, and the behaviour of the kit that has to notice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import attrs

from gitmachine.machine import Machine
from gitmachine.testing import FakeMachine, MachineConformance

T = TypeVar("T", bound=type[FakeMachine])


@attrs.frozen(kw_only=True)
class Broken:
    """A machine with one defect.

    Attributes:
        behaviour: what the kit has to find failing.
        machine: the class.
        says: an expression found in the message, so that it fails for this reason and no other.
        hangs: whether noticing takes all of the kit's patience.
        also: what necessarily fails along with it; the reason is the class's docstring.
    """

    behaviour: str
    machine: type[FakeMachine]
    says: str
    hangs: bool = False
    also: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.behaviour}-{self.machine.__name__}"


REGISTRY: list[Broken] = []


def breaks(behaviour: str, says: str, *, hangs: bool = False, also: Iterable[str] = ()) -> Callable[[T], T]:
    """Register a machine that does not do this behaviour."""

    def register(machine: T) -> T:
        REGISTRY.append(Broken(behaviour=behaviour, machine=machine, says=says, hangs=hangs, also=frozenset(also)))
        return machine

    return register


def kit_for(broken: Broken, *, patience: float) -> type[MachineConformance]:
    """Return the kit over a broken machine."""
    made = broken.machine

    class Kit(MachineConformance):
        host_address = "127.0.0.1"

        async def make_machine(self) -> FakeMachine:
            machine = made()
            machine._root = Path(os.environ["GITMACHINE_HOME"])  # removed after each behaviour, stopped or not
            return machine

        async def connect(self, machine_id: str) -> Machine:
            return await made.connect(machine_id)

        async def kill_machine(self, machine: Machine) -> None:
            assert isinstance(machine, FakeMachine)
            await machine.die()

        async def fill_disk(self, machine: Machine) -> None:
            assert isinstance(machine, FakeMachine)
            machine.free_bytes = 1000

    Kit.patience = patience
    Kit.__name__ = made.__name__
    return Kit
