"""The kit over a real sshd with dash and with busybox's sh as login shells, the latter without SFTP.

Time budget: 200 s.
"""

from __future__ import annotations

import pytest

from gitmachine.testing import MachineConformance
from support.ssh_kit import Ssh
from support.sshd import BUSYBOX, DASH

pytest_plugins = ["gitmachine.testing.plugin"]
pytestmark = pytest.mark.requires("sshd", "ssh-accounts")


class TestDash(Ssh, MachineConformance):
    user = DASH


class TestBusyboxWithoutSftp(Ssh, MachineConformance):
    user = BUSYBOX
    sftp = False
