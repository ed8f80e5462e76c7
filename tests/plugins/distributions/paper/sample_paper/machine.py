"""The machine and its options."""

import attrs

from gitmachine.testing import FakeMachine


@attrs.frozen(kw_only=True)
class PaperConfig:
    sheets: int = 1


class PaperMachine(FakeMachine):
    provider = "paper"


def make(config):
    return PaperMachine()
