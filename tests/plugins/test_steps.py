"""gitmachine-steps: commands at setup and teardown. Time budget: 10 s."""

from __future__ import annotations

import pytest

from gitmachine import CommandFailedError, ConfigError
from gitmachine.machine import MachineState
from gitmachine_steps import plugin
from gitmachine_steps.options import read_steps
from support.repos import show


async def test_steps_run_in_order_and_what_they_write_is_published(session, remote, monkeypatch):
    monkeypatch.setenv("GITMACHINE_TEARDOWN", "echo last >>order")
    options = {"setup": ["echo one >order", "echo two >>order"], "teardown": "echo three >>order"}
    async with session(plugin, "steps", options) as gm:
        assert await gm.read_text("order") == "one\ntwo\n"
    assert show(remote, "feature:order") == "one\ntwo\nthree\nlast"


async def test_a_setup_step_that_fails_undoes_the_start(session):
    gm = session(plugin, "steps", {"setup": ["echo broken >&2; exit 3", "touch never"]})
    with pytest.raises(CommandFailedError, match=r"setup step .* exited with 3: broken"):
        await gm.start()
    assert gm.state is MachineState.STOPPED


async def test_a_teardown_step_that_fails_is_told_when_all_is_over(session, remote):
    gm = session(plugin, "steps", {"teardown": ["echo 1 >made; exit 4"]})
    await gm.start()
    with pytest.raises(CommandFailedError, match=r"teardown step .* exited with 4"):
        await gm.stop()
    assert gm.receipt.pushed
    assert show(remote, "feature:made") == "1"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"setup": [1]}, r"expected a list of commands.*steps\.setup"),
        ({"setup": [" "]}, "expected a list of commands"),
        ({"timeout": 0}, "expected seconds"),
        ({"timeout": True}, "expected seconds"),
        ({"set_up": []}, "unknown option"),
    ],
)
def test_options_that_make_no_sense_are_an_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        read_steps(options, {})


def test_without_options_there_are_no_steps():
    steps = read_steps({}, {})
    assert (steps.setup, steps.teardown, steps.timeout) == ((), (), 600.0)
