"""The kit on E2B machines through the emulator; and the part of it that depends on streams, with each kind damaged.

Time budget: 150 s.
"""

from __future__ import annotations

import asyncio
import urllib.request
from typing import ClassVar

import pytest

from gitmachine import Machine
from gitmachine.testing import MachineConformance
from gitmachine.testing.kit import check_machine
from gitmachine_e2b import E2BMachine
from providers.e2b.conftest import config_for

pytest_plugins = ["gitmachine.testing.plugin"]


class Emulated(MachineConformance):
    """Machines of an emulator."""

    limits: ClassVar = {
        "file-full-disk": "the emulator's sandboxes have their host's disk; test_faults.py has the daemon's own answer",
    }
    emulator: ClassVar = None
    patience = 60.0

    async def make_machine(self) -> E2BMachine:
        return E2BMachine(config_for(self.emulator))

    async def connect(self, machine_id: str) -> E2BMachine:
        return await E2BMachine.connect(machine_id, config_for(self.emulator))

    async def kill_machine(self, machine: Machine) -> None:
        request = urllib.request.Request(
            f"{self.emulator.api_url}/sandboxes/{machine.id}",
            method="DELETE",
            headers={"X-API-Key": self.emulator.api_key},
        )
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).close())


class TestE2B(Emulated):
    @pytest.fixture(autouse=True)
    def _emulated(self, emulator):
        type(self).emulator = emulator


STREAMED = (
    "exit-signal",
    "missing-program",
    "missing-directory",
    "arguments",
    "input",
    "input-stream",
    "parallel",
    "streams",
    "bytes",
    "order",
    "live-output",
    "decoding",
    "imitations",
    "truncation",
    "background-late",
    "timeout-output",
    "timeout-setsid",
    "cancel",
    "pause-continues",
    "can-end-input",
    "process-dialogue",
    "process-kill",
    "can-open-terminal",
    "terminal-keys",
    "lost-command",
    "git-work",
)
"""What streams take part in, and does not move megabytes: the emulator takes long to cut those up."""

DAMAGES = {
    "byte by byte": [("split", {})],
    "many at once": [("coalesce", {"seconds": 0.02})],
    "without ends of processes": [("no-end", {"path": "Start"}), ("no-keepalive", {})],
    "without last frames": [("no-eos", {})],
    "late and with news": [("delay", {"path": "Start|Connect", "seconds": 0.005, "each": True}), ("unknown", {})],
}


LEFT_OUT = {
    ("without last frames", "missing-directory"),  # the last frame is what says that there is none
    *((damage, "git-work") for damage in list(DAMAGES)[1:]),  # long, and made of what is tried by the others
}
CASES = [(damage, one) for damage in DAMAGES for one in STREAMED if (damage, one) not in LEFT_OUT]


@pytest.mark.parametrize(("damage", "identifier"), CASES)
def test_a_behaviour_holds_when_streams_arrive(emulator, damage, identifier):
    class Damaged(Emulated):
        pass

    Damaged.emulator = emulator
    for kind, fields in DAMAGES[damage]:
        emulator.faults.add(kind, surface="sandbox", count=None, **fields)
    [verdict] = check_machine(Damaged, [identifier])
    if verdict.error is not None:
        raise verdict.error
    assert verdict.outcome == "passed", verdict
