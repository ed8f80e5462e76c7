"""Snapshots outlive their sandboxes: listed and removed by the service alone. Time budget: 15 s."""

from __future__ import annotations

import pytest

from gitmachine import AuthenticationError
from gitmachine_e2b import E2BMachine
from gitmachine_e2b._snapshots import FORK_NAME, all_snapshots, drop_snapshot
from gitmachine_e2b.machine import find
from providers.e2b.conftest import config_for


@pytest.fixture
async def left(emulator):
    """Two sandboxes that are gone, and the snapshots that they left: of the first one, then of both."""
    ids, made = [], []
    for number, names in enumerate((["first", None], ["second"])):
        machine = E2BMachine(config_for(emulator))
        await machine.start()
        ids.append(machine.id)
        made += [(await machine.snapshot(name), number) for name in names]
        await machine.stop()
    yield ids, made
    for one in await all_snapshots((), config_for(emulator)):
        await drop_snapshot(one.name, config_for(emulator))


async def test_the_snapshots_of_sandboxes_that_are_gone_are_listed_with_what_they_were_made_of(emulator, left):
    ids, made = left
    found = await all_snapshots(ids, config_for(emulator))
    assert [(one.name, one.machine_id) for one in found] == [(name, ids[number]) for name, number in made]
    found = await all_snapshots(ids[1:], config_for(emulator))
    assert [one.machine_id for one in found] == [None, None, ids[1]]


@pytest.mark.parametrize("form", [str, lambda name: name.partition(":")[0], lambda name: name.rpartition("/")[2]])
async def test_a_snapshot_is_removed_by_its_id_or_its_name(emulator, left, form):
    ids, made = left
    config = config_for(emulator)
    for name, _ in made:
        await drop_snapshot(form(name), config)
        await drop_snapshot(form(name), config)
    assert await all_snapshots(ids, config) == []


async def test_a_template_that_is_no_snapshot_is_never_removed(emulator, machine):
    emulator.requests.clear()
    await drop_snapshot("base", config_for(emulator))
    await machine.delete_snapshot("my-template")
    assert {record.method for record in emulator.requests if "snapshots" in record.path} == {"GET"}
    assert [record.path for record in emulator.requests if record.method == "DELETE"] == []


async def test_the_snapshot_that_a_fork_lives_on_is_not_listed(emulator, machine):
    copy = await machine.fork()
    try:
        assert await all_snapshots([machine.id], config_for(emulator)) == []
    finally:
        await copy.stop()


async def test_the_snapshot_of_a_fork_that_was_never_made_is_removed_by_whoever_looks_for_it(emulator, machine):
    api = machine._link().api
    await api.snapshot(machine.id, f"{FORK_NAME}half-made")
    other = await machine.snapshot("kept")
    assert await find("half-made", config_for(emulator)) is None
    assert [one.id for one in await api.snapshots(machine.id)] == [other]
    await machine.delete_snapshot(other)


async def test_the_snapshot_of_a_fork_that_lives_stays_when_somebody_looks_for_it(emulator, machine):
    copy = await machine.fork(label="living")
    try:
        assert await find("living", config_for(emulator)) == copy.id
        assert len(await machine._link().api.snapshots(machine.id)) == 1
    finally:
        await copy.stop()
    assert await machine._link().api.snapshots(machine.id) == ()


async def test_without_a_key_nobody_is_asked(emulator, monkeypatch):
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="E2B_API_KEY"):
        await all_snapshots((), config_for(emulator, api_key=None))
    assert emulator.requests == []
