"""Each behaviour of the kit is proven by a machine that fails it, and nothing else.

Time budget: 100 s. The whole cross product (every broken machine against every behaviour) takes some 40 minutes of one
core; it runs when GM_KIT_CROSS=1.
"""

from __future__ import annotations

import os
import re
import zlib

import pytest

from conformance.broken import (
    capabilities,
    commands,
    copies,
    files,
    git,
    life,
    output,
    runs,
    terminals,
    timeouts,
    transfers,
)
from conformance.broken.registry import REGISTRY, Broken, kit_for
from gitmachine.testing import MachineConformance
from gitmachine.testing.kit import check_machine

ROOMS = (capabilities, commands, copies, files, git, life, output, runs, terminals, timeouts, transfers)
CROSS = os.environ.get("GM_KIT_CROSS") == "1"
SAMPLE = 2
QUICK = ("exit-codes", "streams", "env-exact", "file-names", "background-returns", "can-spawn")
PATIENCE_SECONDS = 30.0
SHORT_PATIENCE_SECONDS = 3.0
ALL = tuple(MachineConformance.behaviours())


def test_every_behaviour_has_a_broken_machine_and_no_broken_machine_lacks_its_behaviour():
    assert {broken.behaviour for broken in REGISTRY} == set(ALL)


def test_what_fails_along_with_a_defect_is_named_by_its_behaviour():
    for broken in REGISTRY:
        assert broken.also <= set(ALL) - {broken.behaviour}, broken.name


@pytest.mark.parametrize("broken", REGISTRY, ids=lambda broken: broken.name)
def test_the_kit_fails_a_broken_machine_for_its_defect(broken: Broken):
    kit = kit_for(broken, patience=SHORT_PATIENCE_SECONDS if broken.hangs else PATIENCE_SECONDS)
    verdict = check_machine(kit, [broken.behaviour])[0]
    assert verdict.outcome == "failed", f"the kit did not notice: {verdict}"
    assert re.search(broken.says, verdict.reason), verdict.reason


def sample(broken: Broken) -> list[str]:
    """Return some behaviours that the machine does all the same; others for each machine."""
    start = zlib.crc32(broken.name.encode())
    chosen = [QUICK[(start + step) % len(QUICK)] for step in range(SAMPLE)]
    return [name for name in chosen if name != broken.behaviour and name not in broken.also]


@pytest.mark.timeout(1800 if CROSS else 120)
@pytest.mark.parametrize("broken", REGISTRY, ids=lambda broken: broken.name)
def test_the_kit_passes_a_broken_machine_in_everything_else(broken: Broken):
    everything = [name for name in ALL if name != broken.behaviour and name not in broken.also]
    wanted = everything if CROSS else sample(broken)
    verdicts = check_machine(kit_for(broken, patience=PATIENCE_SECONDS), wanted)
    assert [f"{v.id}: {v.reason}" for v in verdicts if v.outcome == "failed"] == []
