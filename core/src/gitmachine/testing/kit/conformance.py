"""`MachineConformance`: every behaviour in one class, and a way to run them without a test runner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from gitmachine.testing.kit.background import BackgroundBehaviours
from gitmachine.testing.kit.behaviour import NotApplicable
from gitmachine.testing.kit.capabilities import CapabilityBehaviours
from gitmachine.testing.kit.commands import CommandBehaviours
from gitmachine.testing.kit.copies import CopyBehaviours
from gitmachine.testing.kit.environment import EnvironmentBehaviours
from gitmachine.testing.kit.files import FileBehaviours
from gitmachine.testing.kit.git import GitBehaviours
from gitmachine.testing.kit.life import LifeBehaviours
from gitmachine.testing.kit.losses import LossBehaviours
from gitmachine.testing.kit.output import OutputBehaviours
from gitmachine.testing.kit.pausing import PauseBehaviours
from gitmachine.testing.kit.runs import RunBehaviours
from gitmachine.testing.kit.terminals import TerminalBehaviours
from gitmachine.testing.kit.timeouts import TimeoutBehaviours
from gitmachine.testing.kit.transfers import TransferBehaviours

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MachineConformance", "Verdict", "check_machine"]


class MachineConformance(
    LifeBehaviours,
    CommandBehaviours,
    OutputBehaviours,
    EnvironmentBehaviours,
    BackgroundBehaviours,
    TimeoutBehaviours,
    FileBehaviours,
    TransferBehaviours,
    PauseBehaviours,
    RunBehaviours,
    CapabilityBehaviours,
    TerminalBehaviours,
    CopyBehaviours,
    LossBehaviours,
    GitBehaviours,
):
    """Everything a machine does, as tests: inherit it, say how a machine is made, and run pytest.

    ::

        from gitmachine.testing import MachineConformance

        pytest_plugins = ["gitmachine.testing.plugin"]


        class TestMyMachine(MachineConformance):
            limits = {"timeout-clean-env": "processes with a cleared environment cannot be found over this API"}

            async def make_machine(self):
                return MyMachine(MyConfig(image="debian:12"))

    See `KitBase` for what else can be said.
    """


@attrs.frozen(kw_only=True)
class Verdict:
    """How one behaviour came out.

    Attributes:
        id: the behaviour.
        outcome: ``passed``, ``failed``, ``skipped``, or ``limit`` for a declared one.
        reason: why it did not pass.
        seconds: how long it took.
        error: what it raised, when it failed.
    """

    id: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    error: BaseException | None = attrs.field(default=None, repr=False)


def check_machine(kit: type[MachineConformance], behaviours: Iterable[str] | None = None) -> list[Verdict]:
    """Run behaviours (all of them by default) of a kit outside of pytest and return how they came out.

    Raises:
        KeyError: there is no such behaviour.
    """
    wanted = list(kit.behaviours() if behaviours is None else behaviours)
    return [_verdict(kit, identifier) for identifier in wanted]


def _verdict(kit: type[MachineConformance], identifier: str) -> Verdict:
    test = getattr(kit(), kit.method_of(identifier))
    began = time.monotonic()
    outcome, reason, failure = "passed", "", None
    try:
        test()
    except NotApplicable as error:
        outcome, reason = ("limit" if error.limit else "skipped"), error.reason
    except Exception as error:  # noqa: BLE001  # whatever a machine raises is a verdict about it
        outcome, reason, failure = "failed", f"{type(error).__name__}: {error}", error
    return Verdict(id=identifier, outcome=outcome, reason=reason, seconds=time.monotonic() - began, error=failure)
