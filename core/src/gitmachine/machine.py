"""The machine contract: what a provider implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from gitmachine.archives.model import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES, Transfer
from gitmachine.errors import UnsupportedOperation
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DEFAULT_MAX_READ_BYTES", "Capability", "Host", "Machine", "MachineState"]

DEFAULT_MAX_READ_BYTES = 100 * 1024 * 1024
"""The largest file `read_file` returns unless told otherwise."""


class MachineState(StrEnum):
    """Where a machine is in its life."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Capability(Enum):
    """What a machine can do beyond running commands and moving files.

    A declared capability works; an undeclared one raises `UnsupportedOperation`.
    """

    SPAWN = "spawn"
    """`spawn` gives a live process."""
    STDIN_EOF = "stdin_eof"
    """The input of a live process can be ended while its output goes on."""
    PAUSE = "pause"
    """`pause` freezes every process and `resume` continues it."""
    USER = "user"
    """`ExecRequest.user` is honoured."""
    PTY = "pty"
    """`spawn` honours `ExecRequest.terminal`, and `Process.resize` changes its size."""
    PORTS = "ports"
    """`get_host` makes a port of the machine reachable."""
    SNAPSHOT = "snapshot"
    """`snapshot` saves the machine's disk, `snapshots` lists and `delete_snapshot` removes what was saved."""
    FORK = "fork"
    """`fork` makes another machine that begins as a copy of this one."""
    QUIESCE = "quiesce"
    """`terminate_processes` ends everything that commands left behind."""


class Host(str):
    """The address of a machine's port as ``host:port``; `url` is the same as a URL."""

    __slots__ = ()

    @property
    def url(self) -> str:
        """The address with a scheme."""
        return f"http://{self}"


class Machine(ABC):
    """An isolated place where commands run; the one class a provider writes.

    Everything is asynchronous, on plain asyncio. A non-zero exit code is a result; a fault of the machine is a
    `MachineError`. GitMachine guards states, locks and deadlines around any machine, so an implementation may assume
    that it is called in a fitting state: `start` when idle or stopped, `pause` when running, `resume` when paused.

    An implementation overrides `execute`, or `spawn` (and declares `Capability.SPAWN`); `execute` then comes for free.
    """

    provider: ClassVar[str] = "custom"
    """The provider's name, for messages and records."""
    capabilities: frozenset[Capability] = frozenset()
    """What this machine can do; the conformance kit checks it both ways."""
    bulk_in: Literal["stream", "files"] = "stream"
    """How large input gets in cheaply: by a process's input, or by `write_file` (a round trip for each chunk)."""
    workdir: str = "/home/user"
    """The directory that relative paths and commands without `cwd` start from; absolute, known once started."""
    ports_last: bool = True
    """Whether what `get_host` returns goes on when this process ends; else it does until `close`."""
    label: str | None = None
    """The session's key, set before `start`; a provider puts it on what it makes, so that it is found after a crash."""

    @property
    @abstractmethod
    def id(self) -> str | None:
        """The provider's id of this machine; None before start and after stop."""

    @property
    @abstractmethod
    def state(self) -> MachineState:
        """The state as this object knows it; asks nobody."""

    @abstractmethod
    async def start(self) -> None:
        """Make the machine and leave it running. What a failed start made is removed again.

        Raises:
            MachineStartError: with what was wrong and what to do.
        """

    @abstractmethod
    async def stop(self) -> None:
        """End every process and remove the machine; works from running and from paused."""

    async def pause(self) -> None:
        """Freeze every process of the machine."""
        raise self.unsupported("pause", Capability.PAUSE)

    async def resume(self) -> None:
        """Continue what `pause` froze (and nothing that was already stopped before)."""
        raise self.unsupported("resume", Capability.PAUSE)

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end.

        The default drives `spawn`. A missing executable is exit code 127, a result; a missing working directory is
        an error and nothing runs.

        Raises:
            CommandTimeoutError: the whole process tree was killed; the partial result is attached.
            MachineLostError: the machine is gone; the command may or may not have finished.
            MachineFileNotFoundError: the working directory does not exist.
        """
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        return await run_process(await self.spawn(live), live)

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command and return the live process.

        Looks at argv or shell, cwd, env, user, open_stdin and, if it can enforce it, timeout; never at `stdin` or the
        callbacks. Without `open_stdin` the input is empty.
        """
        raise self.unsupported("spawn", Capability.SPAWN)

    @abstractmethod
    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes; a larger file than `max_bytes` is a `MachineFileError` (EFBIG)."""

    @abstractmethod
    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically; makes missing parents, keeps the mode of an existing file."""

    @abstractmethod
    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory, without ``.`` and ``..``."""

    async def upload(self, source: Path, target: str) -> Transfer:
        """Copy a file, a symbolic link or a directory of this host into the machine; `target` is what it becomes.

        Missing parents are made. A directory is merged into one that is there: nothing is removed, and the one that is
        there keeps its mode. A file or link replaces one that is there in one step. Modes, links and times (to the
        second) are kept; what is made belongs to the machine's user. A file onto a directory, or a directory onto a
        file, is an error; so it is mostly inside an existing directory, where the machine's ``tar`` decides.

        The default sends an archive to ``tar``; without that, file by file, which keeps no times. An override that
        does not use `gitmachine.archives.pack` calls `gitmachine.archives.advance` as it goes on: a transfer that does
        not go on is taken for a lost machine.

        Raises:
            LocalFileError: `source` cannot be read; also the built-in error, such as FileNotFoundError.
            MachineFileError: the machine cannot write it; also the built-in error, such as IsADirectoryError.
        """
        from gitmachine.transfers import upload

        return await upload(self, source, target)

    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        """Copy a file, a symbolic link or a directory of the machine to this host; `target` is what it becomes.

        As `upload`, the other way. A source that ends in a slash is the directory that a link leads to. The machine may
        be hostile: nothing is written outside the target nor through a link, and devices, pipes, set-user-id bits and
        more than the given bounds are refused. When it fails, a target that was new is removed again. An override takes
        what the machine sends through `gitmachine.archives.unpack`.

        Args:
            source: in the machine; a relative path starts at `workdir`.
            target: on this host; it may be a link to a directory.
            max_bytes: how much content is accepted.
            max_entries: how many files, directories and links are accepted.

        Raises:
            MachineFileError: the machine cannot read it, or sent what is refused (EBADMSG, EFBIG).
            LocalFileError: this host cannot write it; also the built-in error, such as NotADirectoryError.
        """
        from gitmachine.transfers import download

        return await download(self, source, target, max_bytes=max_bytes, max_entries=max_entries)

    async def get_host(self, port: int) -> Host:
        """Return where a port of the machine can be reached."""
        raise self.unsupported(f"get_host({port})", Capability.PORTS)

    async def snapshot(self, name: str | None = None) -> str:
        """Save the disk of the running machine and return what a new machine can be made from; the machine goes on.

        Args:
            name: what to call it; None lets the provider choose.
        """
        raise self.unsupported("snapshot", Capability.SNAPSHOT)

    async def snapshots(self) -> list[str]:
        """Return the snapshots that were made of this machine and still exist, oldest first."""
        raise self.unsupported("snapshots", Capability.SNAPSHOT)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot; no error when it is gone already."""
        raise self.unsupported("delete_snapshot", Capability.SNAPSHOT)

    async def fork(self, *, label: str | None = None) -> Machine:
        """Return another running machine that begins as a copy of this one's disk; this one goes on.

        Its configuration is this one's, and no process is copied. When it raises, or is cancelled, there is no copy.

        Args:
            label: the new machine's `Machine.label`, in place of this one's; put on it before it can be orphaned.
        """
        raise self.unsupported("fork", Capability.FORK)

    async def terminate_processes(self) -> None:
        """Kill every process in the machine that commands left behind; the machine stays usable."""
        raise self.unsupported("terminate_processes", Capability.QUIESCE)

    async def refresh(self) -> None:  # noqa: B027  # most machines are paused by nobody else
        """Have `state` be what the machine is, where somebody else may have paused or continued it.

        Raises:
            MachineLostError: it has ended.
        """

    def hint(self, result: ExecResult) -> str | None:
        """Return advice for the user about a command that failed, or None; asks nobody."""
        return None

    async def close(self) -> None:  # noqa: B027  # most machines hold nothing
        """Let go of the machine and leave it as it is; the object is not used afterwards."""

    def unsupported(self, operation: str, capability: Capability) -> UnsupportedOperation:
        """Return the error for an operation whose capability this machine does not declare."""
        return UnsupportedOperation(
            f"{self.provider} machines cannot {operation}: the capability {capability.value!r} is not declared",
            machine_id=self.id,
            provider=self.provider,
            operation=operation,
        )
