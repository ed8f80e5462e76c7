"""Uploads and downloads of a session: relative to the repository, part of the work, and refused where they do not fit.

Time budget: 15 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine import AsyncGitMachine, LocalFileError, Transfer
from gitmachine.errors import InvalidStateError, MachineFileError, MachineLostError
from gitmachine.testing import FakeMachine, FaultyMachine
from support.repos import make_remote, show


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return make_remote(tmp_path / "remote.git", commits=1)


async def test_what_is_uploaded_is_part_of_the_work(tmp_path: Path, remote: Path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "new").write_text("uploaded\n")
    async with AsyncGitMachine(FakeMachine(root=tmp_path), repository=str(remote), session="s") as gm:
        assert await gm.upload(tmp_path / "data", "in/data") == Transfer(files=1, bytes=9)
        assert await gm.upload(str(tmp_path / "data" / "sub" / "new"), f"{gm.path}/in/other") == Transfer(
            files=1, bytes=9
        )
        assert [change.path for change in (await gm.changes()).files] == ["in/data/sub/new", "in/other"]
        assert await gm.download("in", tmp_path / "out", max_entries=5) == Transfer(files=2, bytes=18)
        assert await gm.download("in/other", str(tmp_path / "one")) == Transfer(files=1, bytes=9)
    assert (tmp_path / "out" / "data" / "sub" / "new").read_text() == "uploaded\n"
    assert show(remote, "s:in/data/sub/new") == "uploaded"


async def test_it_needs_a_running_machine_and_says_whose_file_is_wrong(tmp_path: Path, remote: Path) -> None:
    gm = AsyncGitMachine(FakeMachine(root=tmp_path), repository=str(remote), session="s")
    for transfer in (gm.upload(tmp_path, "x"), gm.download("x", tmp_path / "x")):
        with pytest.raises(InvalidStateError, match="start"):
            await transfer
    await gm.start()
    with pytest.raises(LocalFileError, match="missing"):
        await gm.upload(tmp_path / "missing", "x")
    with pytest.raises(MachineFileError, match="missing"):
        await gm.download("missing", tmp_path / "x")
    await gm.pause()
    for transfer in (gm.upload(tmp_path, "x"), gm.download("x", tmp_path / "x")):
        with pytest.raises(InvalidStateError, match="resume"):
            await transfer
    await gm.stop()


async def test_a_machine_that_is_gone_meanwhile_is_told_once(tmp_path: Path, remote: Path) -> None:
    events: list[str] = []
    machine = FaultyMachine(FakeMachine(root=tmp_path))
    gm = AsyncGitMachine(
        machine, repository=str(remote), session="s", on_event=lambda event, _data, _gm: events.append(event)
    )
    await gm.start()
    machine.die_at("upload")
    (tmp_path / "f").write_text("x")
    with pytest.raises(MachineLostError):
        await gm.upload(tmp_path / "f", "f")
    with pytest.raises(MachineLostError):
        await gm.download("f", tmp_path / "g")
    assert events.count("lost") == 1
    await gm.close()
