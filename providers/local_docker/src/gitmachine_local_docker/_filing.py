"""The files of a machine: small ones by scripts in one round trip, transfers by the engine's archives."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from typing import TYPE_CHECKING

from gitmachine.archives import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES, ArchiveError
from gitmachine.execution import ExecRequest
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Machine
from gitmachine_local_docker import _files, _transfers
from gitmachine_local_docker._container import ROOT, Container
from gitmachine_local_docker._errors import machine_errors

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine import ExecResult
    from gitmachine.archives import Transfer
    from gitmachine.machines.channel import WarmPool
    from gitmachine_local_docker._setup import Profile

__all__ = ["FilingMachine"]


class FilingMachine(Machine):
    """What of a Docker machine is about files."""

    @abstractmethod
    async def _ready(self) -> tuple[Container, Profile, WarmPool]:
        """Return the running container, and what is known of it."""

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        return await self._fetch(_files.READ, "read", path, max_bytes)

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return _files.names_in(await self._fetch(_files.LIST, "list", path, _files.MAX_LISTING_BYTES))

    async def _fetch(self, script: str, verb: str, path: str, max_bytes: int) -> bytes:
        target = _files.absolute(path, self.workdir, verb, self.id)
        result = await self._script(script, target, str(max_bytes + 1), keep=max_bytes + 1)
        if not result.ok:
            raise _files.refusal(result, path, verb, self.id)
        if len(result.stdout_bytes) > max_bytes or result.truncated:
            raise _files.too_large(path, verb, max_bytes, self.id)
        return result.stdout_bytes

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        target = _files.absolute(path, self.workdir, "write", self.id)
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        words = (target, str(len(content)), secrets.token_hex(8))
        result = await self._script(_files.WRITE, *words, stdin=content)
        if not result.ok:
            raise _files.refusal(result, path, "write", self.id)

    async def upload(self, source: Path, target: str) -> Transfer:
        """Copy something of this host into the machine, by the engine's archives where they do what is needed."""
        container, about, _ = await self._ready()
        if about.uid == ROOT:
            place = _files.absolute(target, self.workdir, "upload", self.id)
            with machine_errors(container.engine.dialer, container.id, "upload"):
                done = await _transfers.upload(container.engine, container.id, self._script, source, place)
            if done is not None:
                return done
        return await super().upload(source, target)

    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        """Copy something of the machine to this host, by the engine's archives where they do what is needed."""
        container, about, _ = await self._ready()
        if about.uid == ROOT:
            place = _files.absolute(source, self.workdir, "download", self.id)
            bounds = {"max_bytes": max_bytes, "max_entries": max_entries}
            try:
                with machine_errors(container.engine.dialer, container.id, "download"):
                    done = await _transfers.download(container.engine, container.id, place, target, **bounds)
            except ArchiveError as error:
                raise _files.refused_archive(error, source, container.id) from error
            if done is not None:
                return done
        return await super().download(source, target, max_bytes=max_bytes, max_entries=max_entries)

    async def _script(self, script: str, *words: str, stdin: bytes | None = None, keep: int = 0) -> ExecResult:
        return await self.execute(
            ExecRequest(
                argv=("sh", "-c", script, "sh", *words),
                cwd="/",
                stdin=stdin,
                max_output_bytes=2 * (keep + 4096),
            )
        )
