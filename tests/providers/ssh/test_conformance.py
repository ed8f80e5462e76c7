"""The kit over a real sshd: as root, and as an ordinary user with bash and a noisy, slow .bashrc.

Time budget: 200 s.
"""

from __future__ import annotations

import pytest

from gitmachine.testing import MachineConformance
from support.ssh_kit import Ssh
from support.sshd import BASH

pytest_plugins = ["gitmachine.testing.plugin"]


@pytest.mark.requires("sshd", "root")
class TestRoot(Ssh, MachineConformance):
    pass


@pytest.mark.requires("sshd", "ssh-accounts")
class TestOrdinaryUserWithNoisyBash(Ssh, MachineConformance):
    user = BASH
