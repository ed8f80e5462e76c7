"""Machines that are broken in moving files and directories."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from conformance.broken.registry import breaks
from gitmachine.archives import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES, Transfer
from gitmachine.testing import FakeMachine


@breaks("upload-tree", "empty directory", also={"download-tree"})
class SkipsEmptyDirectories(FakeMachine):
    """What did not arrive cannot come back."""

    async def upload(self, source: Path, target: str) -> Transfer:
        transfer = await super().upload(source, target)
        for path in Path(self.workdir, target).rglob("*"):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
        return transfer


@breaks("upload-merge", "after a merge there are")
class PutsTheSecondOneInside(FakeMachine):
    async def upload(self, source: Path, target: str) -> Transfer:
        inside = source.is_dir() and Path(self.workdir, target).is_dir()
        return await super().upload(source, f"{target}/{source.name}" if inside else target)


@breaks("download-tree", "came back as changed at")
class ForgetsTimes(FakeMachine):
    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        transfer = await super().download(source, target, max_bytes=max_bytes, max_entries=max_entries)
        for path in target.rglob("*"):
            if not path.is_symlink():
                os.utime(path)
        return transfer


@breaks("transfer-big", "arrived")
class LosesTheLastChunk(FakeMachine):
    async def upload(self, source: Path, target: str) -> Transfer:
        transfer = await super().upload(source, target)
        if transfer.bytes > 1 << 20:
            os.truncate(Path(self.workdir, target), transfer.bytes - 100_000)
        return transfer


@breaks("transfer-errors", "a file onto a directory raised nothing")
class PutsFilesIntoDirectories(FakeMachine):
    async def upload(self, source: Path, target: str) -> Transfer:
        inside = source.is_file() and Path(self.workdir, target).is_dir()
        return await super().upload(source, f"{target}/{source.name}" if inside else target)


@breaks("download-guarded", "wrote through a link")
class WritesThroughLinks(FakeMachine):
    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        if Path(self.workdir, source).is_dir() and target.is_dir():
            shutil.copytree(Path(self.workdir, source), target, dirs_exist_ok=True)
            return Transfer()
        return await super().download(source, target, max_bytes=max_bytes, max_entries=max_entries)
