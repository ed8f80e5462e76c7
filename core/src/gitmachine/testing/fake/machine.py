"""`FakeMachine`: everything a machine does, without isolation."""

from __future__ import annotations

import asyncio
import copy
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import attrs

from gitmachine.errors import MachineError, MachineLostError, MachineStartError, file_error
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Host, Machine, MachineState
from gitmachine.testing.fake import copies, files
from gitmachine.testing.fake.body import Body, find_body
from gitmachine.testing.fake.ends import open_ends
from gitmachine.testing.fake.script import Answer, ScriptedAnswer, ScriptedProcess
from gitmachine.testing.fake.tree import ProcessTree, start_marked

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from typing import Self

    from gitmachine.testing.fake.process import FakeProcess

__all__ = ["FakeMachine"]

T = TypeVar("T")

_CAPABILITIES = frozenset(Capability) - {Capability.USER}
_NOT_FOUND = 'printf "%s: not found\\n" "$1" >&2; exit 127'
_NOT_EXECUTABLE = 'printf "%s: cannot be executed\\n" "$1" >&2; exit 126'


class FakeMachine(Machine):
    """A machine for tests: local processes in a temporary directory, started in a millisecond. It isolates nothing.

    Everything of the contract works: live processes, pause, whole process trees, files, git. Commands see the host's
    programs but none of the client's environment. `script` answers commands without running them; `requests` are
    those that came.

    Attributes:
        requests: every command that was asked for, in order.
        free_bytes: how large a file `write_file` can still write; None is no limit.
    """

    provider: ClassVar[str] = "fake"

    def __init__(
        self,
        *,
        root: Path | None = None,
        path: str | None = None,
        capabilities: Iterable[Capability] = _CAPABILITIES,
        snapshot: str | None = None,
    ) -> None:
        """Make an idle machine.

        Args:
            root: where its directory is made; None is the directory for temporary files.
            path: the ``PATH`` of its commands; None is the client's.
            capabilities: what it declares; the others raise `UnsupportedOperation`.
            snapshot: what `snapshot` of another machine of this process returned, to begin with its files.
        """
        self.capabilities = frozenset(capabilities)
        self.requests: list[ExecRequest] = []
        self.free_bytes: int | None = None
        self._root = root
        self._snapshot = snapshot
        self._search_path = path if path is not None else os.environ.get("PATH", os.defpath)
        self._scripted: list[ScriptedAnswer] = []
        self._body: Body | None = None
        self._state = MachineState.IDLE

    @classmethod
    async def connect(cls, machine_id: str) -> Self:
        """Take over a machine that another object of this process started.

        Raises:
            MachineLostError: there is none.
        """
        body = find_body(machine_id)
        if body is None or body.dead is not None:
            raise MachineLostError(
                f"there is no running fake machine {machine_id!r}",
                machine_id=machine_id,
                provider=cls.provider,
                operation="connect",
            )
        machine = cls()
        machine._adopt(body)
        machine._state = MachineState.PAUSED if body.paused else MachineState.RUNNING
        return machine

    @property
    def id(self) -> str | None:
        """The name of its directory, from start to stop."""
        return self._body.id if self._body is not None else None

    @property
    def state(self) -> MachineState:
        """The state as this object knows it."""
        return self._state

    def script(self, pattern: str, answer: Answer, *, times: int | None = None) -> None:
        """Answer commands in which the regular expression is found, instead of running them.

        Args:
            pattern: searched in the script, or in the arguments quoted for a shell.
            answer: a result, its standard output, its exit code, an exception to raise, or a function of the request
                that returns one of the first three.
            times: how often; None is always. The latest pattern that matches answers.
        """
        self._scripted.insert(0, ScriptedAnswer(pattern=re.compile(pattern, re.DOTALL), answer=answer, times=times))

    # Life

    def make_body(self) -> Body:
        """Make what the machine consists of."""
        return Body(self._root)

    def _adopt(self, body: Body) -> None:
        self._body = body
        self.workdir = str(body.home)

    async def start(self) -> None:
        """Make the directory."""
        snapshot = None if self._snapshot is None else copies.find_snapshot(self._snapshot)
        if snapshot is None and self._snapshot is not None:
            raise self._error(MachineStartError, f"there is no snapshot {self._snapshot!r}", "start")
        try:
            self._adopt(await self._made(None if snapshot is None else snapshot.folder))
        except OSError as error:
            raise self._error(MachineStartError, f"the fake machine did not start: {error}", "start") from error
        self._state = MachineState.RUNNING

    async def _made(self, source: Path | None) -> Body:
        """Make a body with a copy of some files; one that is not wanted any more is removed again."""
        making = asyncio.ensure_future(asyncio.to_thread(self.make_body))
        try:
            body = await _in_any_case(making)
            if source is not None:
                await _in_any_case(asyncio.ensure_future(asyncio.to_thread(copies.copy_files, source, body.home)))
        except BaseException:
            if making.done() and not making.cancelled() and making.exception() is None:
                await making.result().end()
            raise
        return body

    async def stop(self) -> None:
        """Kill every process and remove the directory."""
        if self._body is not None:
            await self._body.end()
        self._body = None
        self._state = MachineState.STOPPED

    async def pause(self) -> None:
        """Stop every process."""
        self._need(Capability.PAUSE, "pause")
        body = self._running("pause")
        await self._tree(body.tree.freeze, "pause")
        body.paused = True
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        """Continue what `pause` stopped."""
        self._need(Capability.PAUSE, "resume")
        body = self._running("resume")
        await self._tree(body.tree.thaw, "resume")
        body.paused = False
        self._state = MachineState.RUNNING

    async def terminate_processes(self) -> None:
        """Kill every process; the files stay."""
        self._need(Capability.QUIESCE, "terminate_processes")
        await self._tree(self._running("terminate_processes").tree.kill_all, "terminate processes")

    async def die(self, reason: str = "it was killed") -> None:
        """Be gone at once, as a machine whose host fails: processes, files and all; its object does not know yet."""
        body = self._running("die")
        body.lose(self._error(MachineLostError, f"the fake machine is gone: {reason}", None))
        dead = body.dead
        await body.end()
        body.dead = dead

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        return await run_process(await self.launch(live), live)

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command."""
        self._need(Capability.SPAWN, "spawn")
        return await self.launch(request)

    async def launch(self, request: ExecRequest) -> Process:
        """Start a command for `execute` or `spawn`, or take its scripted answer."""
        body = self._running("execute")
        if request.user is not None:
            raise self.unsupported(f"run commands as {request.user!r}", Capability.USER)
        if request.terminal is not None:
            self._need(Capability.PTY, "run commands on a terminal")
        self.requests.append(request)
        for scripted in self._scripted:
            if (result := scripted.take(request)) is not None:
                return ScriptedProcess(result)
        cwd = await asyncio.to_thread(self._directory, request.cwd)
        return await self._start(body, request, cwd)

    def environment(self, request: ExecRequest) -> dict[str, str]:
        """Return everything a command finds in its environment."""
        terminal = {} if request.terminal is None else {"TERM": "xterm-256color"}
        return {"PATH": self._search_path, "HOME": self.workdir, "LANG": "C.UTF-8", **terminal, **request.env}

    async def _start(self, body: Body, request: ExecRequest, cwd: Path) -> FakeProcess:
        mark = body.tree.new_mark()
        ends = open_ends(request)
        options = {**ends.options, "cwd": cwd, "env": self.environment(request)}
        starting = asyncio.ensure_future(asyncio.to_thread(_popen, mark, ends.argv, options))
        try:
            child = await _in_any_case(starting)
            if body.dead is not None or body.ended:
                raise body.dead or self._error(MachineLostError, "the fake machine was stopped", "execute")
        except BaseException as error:
            for fd in ends.ours:
                os.close(fd)
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await asyncio.to_thread(_abort, body.tree, mark, starting.result())
            if isinstance(error, OSError):
                raise self._error(MachineError, f"the command could not be started: {error}", "execute") from error
            raise
        finally:
            for fd in ends.theirs:
                os.close(fd)
        body.tree.add(child.pid)
        process = ends.process(child, body, mark)
        body.hold(process)
        return process

    def _directory(self, cwd: str | None) -> Path:
        path = Path(self.workdir, cwd or "")
        number = 0 if path.is_dir() else errno.ENOTDIR if path.exists() else errno.ENOENT
        if number:
            message = f"cannot run a command in {cwd!r}: {os.strerror(number).lower()} in the machine"
            raise file_error(number, message, path=str(cwd), machine_id=self.id, provider=self.provider)
        return path

    # Files and ports

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        return await self._file("read", path, lambda target: files.read_bytes(target, max_bytes))

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        await self._file("write", path, lambda target: files.write_bytes(target, content, self.free_bytes))

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        return await self._file("list", path, files.list_names)

    async def _file(self, verb: str, path: str, action: Callable[[Path], T]) -> T:
        self._running(f"{verb}_file")
        try:
            if not path or "\0" in path or (verb == "write" and path.endswith("/")):
                number = errno.EISDIR if path.endswith("/") else errno.ENOENT
                raise OSError(number, os.strerror(number), path)
            return await asyncio.to_thread(action, Path(self.workdir, path))
        except OSError as error:
            message = f"cannot {verb} {path!r} in the machine: {(error.strerror or str(error)).lower()}"
            fields = {"machine_id": self.id, "provider": self.provider, "operation": f"{verb}_file"}
            raise file_error(error.errno or errno.EIO, message, path=path, **fields) from error

    async def get_host(self, port: int) -> Host:
        """Return the port on loopback: the machine has no network of its own."""
        self._need(Capability.PORTS, f"get_host({port})")
        self._running("get_host")
        return Host(f"127.0.0.1:{port}")

    # Copies

    async def snapshot(self, name: str | None = None) -> str:
        """Copy the files to a place of their own, which lasts until it is deleted or this process ends."""
        self._need(Capability.SNAPSHOT, "snapshot")
        body = self._running("snapshot")
        try:
            saving = asyncio.ensure_future(asyncio.to_thread(copies.save, body.home, body.id, name, self._root))
            return (await _in_any_case(saving)).name
        except OSError as error:
            raise self._error(MachineError, f"cannot save a snapshot: {error}", "snapshot") from error

    async def snapshots(self) -> list[str]:
        """Return the names of the snapshots of this machine."""
        self._need(Capability.SNAPSHOT, "snapshots")
        return copies.snapshots_of(self._running("snapshots").id)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot."""
        self._need(Capability.SNAPSHOT, "delete_snapshot")
        self._running("delete_snapshot")
        await asyncio.to_thread(copies.delete_snapshot, snapshot)

    async def fork(self, *, label: str | None = None) -> FakeMachine:
        """Return another machine with a copy of the files, and the same scripted answers."""
        self._need(Capability.FORK, "fork")
        body = self._running("fork")
        made = copy.copy(self)
        made.requests, made._scripted = [], list(self._scripted)
        made.label = label
        try:
            made._adopt(await made._made(body.home))
        except OSError as error:
            raise self._error(MachineError, f"cannot copy the machine: {error}", "fork") from error
        return made

    # Guards

    def _need(self, capability: Capability, operation: str) -> None:
        if capability not in self.capabilities:
            raise self.unsupported(operation, capability)

    def _running(self, operation: str) -> Body:
        if self._body is None:
            raise self._error(MachineLostError, f"cannot {operation}: there is no machine", operation)
        if self._body.dead is not None:
            raise self._body.dead
        return self._body

    async def _tree(self, action: Callable[[], None], operation: str) -> None:
        try:
            await asyncio.to_thread(action)
        except TimeoutError as error:
            raise self._error(MachineError, f"cannot {operation}: {error}", operation) from error

    def _error(self, cls: type[_MachineErrorT], message: str, operation: str | None) -> _MachineErrorT:
        return cls(message, machine_id=self.id, provider=self.provider, operation=operation)


_MachineErrorT = TypeVar("_MachineErrorT", bound=MachineError)


async def _in_any_case(starting: asyncio.Future[T]) -> T:
    """Await what a thread does; a cancellation waits until it is known what was done."""
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        raise


def _popen(mark: int, argv: tuple[str, ...], options: dict[str, object]) -> subprocess.Popen[bytes]:
    """Start a program; one that cannot be executed becomes a shell that says so."""
    try:
        return start_marked(mark, argv, **options)
    except FileNotFoundError:
        script = _NOT_FOUND
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP}:
            raise
        script = _NOT_FOUND if error.errno == errno.ENOTDIR else _NOT_EXECUTABLE
    return start_marked(mark, ("/bin/sh", "-c", script, "sh", argv[0]), **options)


def _abort(tree: ProcessTree, mark: int, child: subprocess.Popen[bytes]) -> None:
    """Kill a command whose start was cancelled: it may have children already."""
    tree.add(child.pid)
    tree.kill(child.pid, mark)
    child.wait()
