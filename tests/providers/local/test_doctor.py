"""Doctor runs a real machine, and says which obstacle there is.

Time budget: 10 s.
"""

from __future__ import annotations

import pytest

from gitmachine_local import LocalConfig
from gitmachine_local.doctor import doctor


@pytest.mark.requires("sandbox")
async def test_where_sandboxes_work_every_check_is_ok_and_nothing_is_left(helpers):
    checks = await doctor(LocalConfig())
    assert [(check.name, check.ok) for check in checks] == [("system", True), ("bubblewrap", True), ("sandbox", True)]
    assert "a command ran in a sandbox" in checks[-1].detail
    assert helpers.leftovers() == []


async def test_without_isolation_it_says_that_there_is_none():
    (check,) = await doctor(LocalConfig(isolation="none"))
    assert check.ok
    assert "without any isolation" in check.detail


@pytest.mark.requires("linux")
async def test_a_missing_bubblewrap_is_named_with_a_way_out():
    checks = await doctor(LocalConfig(bubblewrap="/no/bwrap"))
    assert [(check.name, check.ok) for check in checks] == [("system", True), ("bubblewrap", False)]
    assert "/no/bwrap" in checks[-1].detail
    assert 'isolation = "none"' in checks[-1].fix


@pytest.mark.requires("linux")
async def test_a_sandbox_that_cannot_be_made_is_explained(tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    broken.chmod(0o755)
    checks = await doctor(LocalConfig(bubblewrap=str(broken)))
    assert not checks[-1].ok
    assert "user namespaces are forbidden" in checks[-1].detail
    assert 'isolation = "none"' in checks[-1].fix
