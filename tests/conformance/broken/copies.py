"""Machines whose copies are not whole, or not apart."""

from __future__ import annotations

import shutil
from pathlib import Path

from conformance.broken.registry import breaks
from gitmachine.machine import Capability
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake import copies


@breaks("can-snapshot", "listed are")
class DeletesNothing(FakeMachine):
    async def delete_snapshot(self, snapshot: str) -> None:
        await self.snapshots()


@breaks("can-snapshot", "it was not refused")
class SnapshotsUndeclared(FakeMachine):
    def __init__(self) -> None:
        super().__init__()
        self.capabilities -= {Capability.SNAPSHOT}

    async def snapshots(self) -> list[str]:
        return copies.snapshots_of("nobody")


@breaks("can-fork", "shows")
class SharesItsDirectories(FakeMachine):
    async def fork(self, *, label: str | None = None) -> FakeMachine:
        made = await super().fork(label=label)
        for entry in list(Path(made.workdir).iterdir()):
            if entry.is_dir():
                shutil.rmtree(entry)
                entry.symlink_to(Path(self.workdir, entry.name))
        return made


@breaks("can-fork", "was to have the label")
class KeepsTheLabel(FakeMachine):
    async def fork(self, *, label: str | None = None) -> FakeMachine:
        del label
        return await super().fork(label=self.label)
