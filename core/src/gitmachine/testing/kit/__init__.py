"""The conformance kit: what a machine has to do, as tests that a provider's author inherits."""

from gitmachine.testing.kit.behaviour import Behaviour, ConformanceFailure, NotApplicable
from gitmachine.testing.kit.conformance import MachineConformance, check_machine
from gitmachine.testing.kit.stage import Stage

__all__ = ["Behaviour", "ConformanceFailure", "MachineConformance", "NotApplicable", "Stage", "check_machine"]
