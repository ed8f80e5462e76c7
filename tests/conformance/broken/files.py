"""Machines that are broken in their files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

from conformance.broken.registry import breaks
from gitmachine.errors import MachineError, MachineFileError, MachineIsADirectoryError, file_error
from gitmachine.machine import DEFAULT_MAX_READ_BYTES
from gitmachine.testing import FakeMachine


def missing(path: str) -> MachineFileError:
    return file_error(errno.ENOENT, f"no such file: {path}", path=path)


class ReadsItsWay(FakeMachine):
    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        return self.changed(path, await super().read_file(path, max_bytes=max_bytes))

    def changed(self, path: str, data: bytes) -> bytes:
        raise AssertionError("a subclass says")


@breaks("file-bytes", "did not come back as they were")
class ReadsTheFirstMegabyte(ReadsItsWay):
    def changed(self, path: str, data: bytes) -> bytes:
        return data[: 1 << 20] if path.endswith("data.bin") else data


@breaks("file-empty", "no such file")
class MissesEmptyFiles(ReadsItsWay):
    def changed(self, path: str, data: bytes) -> bytes:
        if not data:
            raise missing(path)
        return data


@breaks("file-text", "the text")
class TranslatesLineEnds(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        await super().write_file(path, data.replace("\r\n", "\n") if isinstance(data, str) else data)


@breaks("file-parents", "no such file: a/b c/d")
class MakesNoDirectories(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        parent = Path(self.workdir, path).parent
        if Path(self.workdir).is_dir() and not parent.exists():
            raise missing(path)
        await super().write_file(path, data)


@breaks("file-paths", "no such file")
class ListsRelativePathsOnly(FakeMachine):
    async def list_files(self, path: str = ".") -> list[str]:
        if path.startswith("/"):
            raise missing(path)
        return await super().list_files(path)


@breaks("file-atomic", "a reader of the old file")
class WritesInPlace(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        target = Path(self.workdir, path)
        if not target.is_file() or self.free_bytes is not None:
            await super().write_file(path, data)
        else:
            target.write_bytes(data.encode() if isinstance(data, str) else data)


@breaks("file-mode", "a script of mode 750")
class ForgetsModes(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        await super().write_file(path, data)
        Path(self.workdir, path).chmod(0o644)


@breaks("file-names", "listed without")
class ListsByLines(FakeMachine):
    async def list_files(self, path: str = ".") -> list[str]:
        names = "\n".join(await super().list_files(path))
        return sorted(names.split("\n")) if names else []


@breaks("file-list", "listed was")
class HidesNames(FakeMachine):
    async def list_files(self, path: str = ".") -> list[str]:
        return [name for name in await super().list_files(path) if not name.startswith(".")]


@breaks("file-limit", "returned 1000 bytes")
class ReadsWithoutLimit(FakeMachine):
    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        return await super().read_file(path)


@breaks("file-endless", "pipe is refused|did not read_file within", hangs=True)
class WaitsForPipes(FakeMachine):
    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        target = Path(self.workdir, path)
        if target.exists() and stat.S_ISFIFO(target.stat().st_mode):
            await asyncio.get_running_loop().create_future()
        return await super().read_file(path, max_bytes=max_bytes)


@breaks("file-errors", "not MachineIsADirectoryError")
class HasOneErrorForAll(FakeMachine):
    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        try:
            return await super().read_file(path, max_bytes=max_bytes)
        except MachineIsADirectoryError as error:
            raise MachineError(f"cat: {path}: exit code 1") from error


@breaks("file-parallel", "was renamed by somebody else|written beside 15 others")
class UsesOneTemporaryName(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        target = Path(self.workdir, path)
        temporary = target.parent / ".temporary"
        if not target.parent.is_dir() or target.exists() or target.is_dir() or self.free_bytes is not None:
            await super().write_file(path, data)
            return
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        await asyncio.sleep(0.02)
        try:
            temporary.rename(target)
        except OSError as error:
            raise MachineError("a temporary file was renamed by somebody else") from error


@breaks("file-full-disk", "the old file is gone")
class WritesWhatFits(FakeMachine):
    async def write_file(self, path: str, data: bytes | str) -> None:
        if self.free_bytes is not None and len(data) > self.free_bytes:
            Path(self.workdir, path).write_bytes(b"x" * self.free_bytes)
            raise file_error(errno.ENOSPC, os.strerror(errno.ENOSPC), path=path)
        await super().write_file(path, data)
