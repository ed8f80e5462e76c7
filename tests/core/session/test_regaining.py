"""A machine that is lost to its session: asked for once more before it is written off, and kept where nobody knows.

Time budget: 10 s.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from gitmachine import AsyncGitMachine, PluginHost, ProviderSpec, hookimpl
from gitmachine.errors import MachineError, MachineLostError, MachineUnreachableError
from gitmachine.machine import Machine
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from support.repos import show

Make = Callable[..., AsyncGitMachine]


@attrs.frozen(kw_only=True)
class Nothing:
    """No options."""


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have a provider whose `connect` does what is put in here, and the plugins that offer it."""
    does: dict[str, Any] = {}

    async def connect(machine_id: str, config: Nothing) -> Machine:
        del machine_id, config
        return does["connect"]()  # type: ignore[no-any-return]

    module = types.ModuleType("regained_machines")
    module.Config, module.make, module.connect = Nothing, None, connect  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "regained_machines", module)
    spec = ProviderSpec(
        name="pausing",
        factory="regained_machines:make",
        config="regained_machines:Config",
        connect="regained_machines:connect",
    )

    class Plugin:
        @hookimpl
        def gitmachine_register_providers(self) -> list[ProviderSpec]:
            return [spec]

    does["plugins"] = PluginHost(entry_points=())
    does["plugins"].register(Plugin(), "regained")
    return does


async def state() -> str:
    async with Journal.open(Places.default()) as journal:
        (record,) = await journal.machines(include_ended=True)
        return record.state


async def begun(make: Make, connects: dict[str, Any], machine: Any, **keywords: Any) -> AsyncGitMachine:
    gm = make(plugins=connects["plugins"], **keywords)
    await gm.start()
    await gm.write_file("x", "work")
    machine.dead = True
    return gm


async def test_a_machine_that_its_provider_still_has_is_stopped_with_its_work(
    make: Make, machine: Any, remote: Path, connects: dict[str, Any]
) -> None:
    gm = await begun(make, connects, machine)

    def again() -> Machine:
        machine.dead = False
        return machine  # type: ignore[no-any-return]

    connects["connect"] = again
    with pytest.raises(MachineLostError):
        await gm.run("true")
    assert await state() == "running", "it may hold work, so it is listed"
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:x") == "work"
    assert await state() == "stopped"
    assert await gm.stop() is receipt


async def test_one_that_is_lost_again_is_kept_and_can_be_stopped_later(
    make: Make, machine: Any, remote: Path, connects: dict[str, Any]
) -> None:
    gm = await begun(make, connects, machine)
    connects["connect"] = lambda: machine
    with pytest.raises(MachineError, match="lost again: somebody removed") as caught:
        await gm.stop()
    assert not isinstance(caught.value, MachineLostError)
    assert any("not written off" in note for note in caught.value.__notes__)
    assert await state() == "running"
    machine.dead = False
    assert (await gm.stop()).pushed  # type: ignore[union-attr]
    assert show(remote, "feature:x") == "work"
    assert await state() == "stopped"


async def test_one_that_nobody_knows_of_is_kept_until_its_provider_answers(
    make: Make, machine: Any, connects: dict[str, Any]
) -> None:
    gm = await begun(make, connects, machine)

    def silent() -> Machine:
        raise MachineUnreachableError("the engine does not answer", provider="pausing")

    connects["connect"] = silent
    for _ in range(2):
        with pytest.raises(MachineUnreachableError, match="the engine does not answer") as caught:
            await gm.stop(force=True)
        assert any("not written off" in note for note in caught.value.__notes__)
        assert await state() == "running"

    def gone() -> Machine:
        raise MachineLostError("there is none", provider="pausing")

    connects["connect"] = gone
    with pytest.raises(MachineLostError):
        await gm.stop()
    assert await state() == "lost"


async def test_what_is_left_of_a_machine_that_died_before_it_had_work_is_removed(
    make: Make, machine: Any, connects: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = type(machine).start

    async def dying(self: Any) -> None:
        await start(self)
        self.dead = True

    monkeypatch.setattr(type(machine), "start", dying)
    with pytest.raises(MachineLostError):
        await make(plugins=connects["plugins"]).start()
    assert not Path(machine.workdir).exists()
    assert await state() == "failed"
