"""Transfers through the guard: as long as they go on, however long; ended by a stop; refused where changes are.

Time budget: 20 s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gitmachine.archives import LocalFileError, Transfer, advance
from gitmachine.errors import InvalidStateError, MachineError, MachineFileError, MachineLostError
from gitmachine.machines.managed import Deadlines, ManagedMachine
from gitmachine.testing import FakeMachine, FaultyMachine

SHORT = Deadlines(files=0.3, cancel=5.0)


class Slow(FakeMachine):
    """A machine whose transfers take many small steps, or none."""

    steps = 0
    pause_seconds = 0.0

    async def upload(self, source: Path, target: str) -> Transfer:
        for _ in range(self.steps):
            await asyncio.sleep(self.pause_seconds)
            advance()
        await self.reached()
        return Transfer(files=1, bytes=0)

    async def reached(self) -> None:
        """Do what comes last."""


class Stuck(Slow):
    """A machine whose transfers do not end."""

    def __init__(self, root: Path) -> None:
        super().__init__(root=root)
        self.waiting = asyncio.Event()

    async def reached(self) -> None:
        self.waiting.set()
        await asyncio.get_running_loop().create_future()


async def test_a_transfer_passes_through(tmp_path: Path) -> None:
    machine = ManagedMachine(FakeMachine(root=tmp_path))
    with pytest.raises(InvalidStateError, match="start"):
        await machine.upload(tmp_path, "x")
    await machine.start()
    (tmp_path / "f").write_text("content")
    assert await machine.upload(tmp_path / "f", "g") == Transfer(files=1, bytes=7)
    assert await machine.download("g", tmp_path / "back", max_bytes=7, max_entries=1) == Transfer(files=1, bytes=7)
    with pytest.raises(LocalFileError, match="missing"):
        await machine.upload(tmp_path / "missing", "g")
    with pytest.raises(MachineFileError, match="more than 6 bytes"):
        await machine.download("g", tmp_path / "back", max_bytes=6)
    assert machine.lost is None
    assert machine.ports_last is True
    await machine.stop()


async def test_a_transfer_that_goes_on_may_take_longer_than_any_deadline(tmp_path: Path) -> None:
    inner = Slow(root=tmp_path)
    inner.steps, inner.pause_seconds = 40, 0.05
    machine = ManagedMachine(inner, deadlines=SHORT)
    await machine.start()
    assert await machine.upload(tmp_path, "x") == Transfer(files=1, bytes=0)
    await machine.stop()


async def test_a_transfer_that_does_not_go_on_means_that_the_machine_is_lost(tmp_path: Path) -> None:
    reasons: list[str] = []
    inner = FaultyMachine(FakeMachine(root=tmp_path))
    machine = ManagedMachine(inner, deadlines=SHORT, on_lost=reasons.append)
    await machine.start()
    inner.hang("download")
    with pytest.raises(MachineLostError, match=r"did not go on with download 'x' for 0.3 s"):
        await machine.download("x", tmp_path / "x")
    assert len(reasons) == 1
    with pytest.raises(MachineLostError):
        await machine.upload(tmp_path, "x")
    await inner.inner.stop()


async def test_a_stop_ends_a_transfer(tmp_path: Path) -> None:
    inner = Stuck(tmp_path)
    machine = ManagedMachine(inner)
    await machine.start()
    uploading = asyncio.ensure_future(machine.upload(tmp_path, "x"))
    await asyncio.wait_for(inner.waiting.wait(), 30)
    await machine.stop()
    with pytest.raises(InvalidStateError, match="the upload was ended because the machine is stopping"):
        await uploading


async def test_a_closed_gate_ends_and_refuses_uploads_only(tmp_path: Path) -> None:
    inner = Stuck(tmp_path)
    machine = ManagedMachine(inner)
    await machine.start()
    await machine.write_file("f", b"x")
    uploading = asyncio.ensure_future(machine.upload(tmp_path, "x"))
    await asyncio.wait_for(inner.waiting.wait(), 30)
    with machine.gate.closed("the work is being saved"):
        assert await machine.end_commands(0) == 1
        with pytest.raises(InvalidStateError, match="the upload was ended because the work is being saved"):
            await uploading
        with pytest.raises(InvalidStateError, match="cannot upload: the work is being saved"):
            await machine.upload(tmp_path, "x")
        assert (await machine.download("f", tmp_path / "f")).files == 1
    await machine.stop()


async def test_a_machine_that_dies_meanwhile_is_lost(tmp_path: Path) -> None:
    inner = FaultyMachine(Stuck(tmp_path))
    machine = ManagedMachine(inner)
    await machine.start()
    uploading = asyncio.ensure_future(machine.upload(tmp_path, "x"))
    await asyncio.wait_for(inner.inner.waiting.wait(), 30)  # type: ignore[attr-defined]  # it is a Stuck one
    await inner.die()
    with pytest.raises(MachineLostError, match="it was killed"):
        await uploading
    assert machine.lost is not None
    await inner.stop()


async def test_foreign_errors_are_put_in_our_terms(tmp_path: Path) -> None:
    inner = FaultyMachine(FakeMachine(root=tmp_path))
    machine = ManagedMachine(inner)
    await machine.start()
    inner.fail("upload", RuntimeError("odd"))
    with pytest.raises(MachineError, match="failed to upload: RuntimeError: odd"):
        await machine.upload(tmp_path, "x")
    inner.fail("download", PermissionError(13, "Permission denied"))
    with pytest.raises(PermissionError, match="download 'x'") as caught:
        await machine.download("x", tmp_path / "x")
    assert isinstance(caught.value, MachineFileError)
    await machine.stop()


async def test_a_full_disk_refuses_what_does_not_fit(tmp_path: Path) -> None:
    inner = FaultyMachine(FakeMachine(root=tmp_path / "machine"))
    (tmp_path / "machine").mkdir()
    await inner.start()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 100)
    inner.fill_disk(50)
    with pytest.raises(MachineFileError, match="no space left"):
        await inner.upload(tmp_path / "d", "d")
    inner.fill_disk(None)
    assert (await inner.upload(tmp_path / "d", "d")).bytes == 100
    assert inner.calls["upload"] == 2
    await inner.stop()
