"""The local machine: processes of this host in a sandbox, behind a supervisor that outlives its client."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import math
import os
import posixpath
from typing import TYPE_CHECKING, Any, ClassVar

from gitmachine import InvalidStateError, MachineError, MachineLostError, MachineStartError
from gitmachine.errors import file_error
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Machine, MachineState
from gitmachine.pipes import PipeReader, PipeWriter, make_pipes
from gitmachine_local import _hints, _launch, _processes, _records, _revival, _sandbox
from gitmachine_local._client import Channel
from gitmachine_local._collect import collect
from gitmachine_local._errors import PROVIDER, file_errors, machine_errors, spawn_errors
from gitmachine_local._process import LocalProcess
from gitmachine_local.config import LocalConfig

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gitmachine import ExecRequest, ExecResult, Process
    from gitmachine_local._records import Record

__all__ = ["LocalMachine", "connect"]

MAX_LISTING_BYTES = 256 << 20
ENDING_SECONDS = 10.0
"""How long a first process that no longer listens may take to be gone."""


class LocalMachine(Machine):
    """Commands run in a bubblewrap sandbox on this host (or, with ``isolation="none"``, on the host as it is).

    The machine has a private home, no network unless asked, and nothing of the host but its programs. It lives until
    `stop`, whoever started it: `connect` takes it over from any process of the same user.
    """

    provider: ClassVar[str] = PROVIDER
    capabilities = frozenset(
        {Capability.SPAWN, Capability.STDIN_EOF, Capability.PTY, Capability.PAUSE, Capability.QUIESCE}
    )

    def __init__(self, config: LocalConfig | None = None) -> None:
        self.config = config if config is not None else LocalConfig()
        self.workdir = _sandbox.HOME
        self._record: Record | None = None
        self._state = MachineState.IDLE
        self._channel: Channel | None = None

    @classmethod
    async def connect(cls, machine_id: str, config: LocalConfig | None = None) -> LocalMachine:
        """Take over a machine; one whose processes have ended is started again, on the home that it had.

        Raises:
            MachineLostError: it is gone, or never was.
            MachineError: it does not start again; its files are still there.
        """
        record = await asyncio.to_thread(_records.Record.load, machine_id)
        if record is not None and record.ending is not None:
            await asyncio.to_thread(_records.sweep)  # who began to remove it may have died at that
            record = None
        machine = cls(config)
        if record is not None and (await machine._join(record) or await machine._revive(record.id)):
            return machine
        raise MachineLostError(
            f"there is no local machine {machine_id!r}", machine_id=machine_id, provider=PROVIDER, operation="connect"
        )

    async def _join(self, record: Record) -> bool:
        """Take over a machine; False when its processes have ended, be it just now."""
        if not await asyncio.to_thread(_processes.is_alive, record.first):
            return False
        self._adopt(record)
        try:
            paused = await (await self._connected()).call("hello")
        except MachineLostError:
            self._disconnect()
            with machine_errors(record.id, "connect"):
                await asyncio.to_thread(_processes.wait_end, record.first, timeout_seconds=ENDING_SECONDS)
            return False
        self._state = MachineState.PAUSED if paused else MachineState.RUNNING
        return True

    @property
    def id(self) -> str | None:
        """Twelve hexadecimal digits, from start to stop."""
        return self._record.id if self._record is not None else None

    @property
    def state(self) -> MachineState:
        """The state as this object knows it."""
        return self._state

    def _adopt(self, record: Record) -> None:
        self._record = record
        self.label = record.label
        self.workdir = str(record.home) if record.isolation == "none" else _sandbox.HOME

    # Life

    async def start(self) -> None:
        """Start the supervisor, in its sandbox, and wait until it answers."""
        try:
            await self._make(asyncio.to_thread(_launch.make, self.config, self.label))
            await self._greet()
        except BaseException as error:
            refusal = self._refusal(error)
            await asyncio.shield(self._undo())
            if refusal is not None:
                raise refusal from error
            raise
        self._state = MachineState.RUNNING

    async def _make(self, thread: Coroutine[Any, Any, Record]) -> None:
        making = asyncio.ensure_future(thread)
        try:
            self._adopt(await asyncio.shield(making))
        except asyncio.CancelledError:
            # It is not known before the thread has ended what there is to be undone.
            with contextlib.suppress(MachineError, OSError):
                self._adopt(await making)
            raise

    async def _revive(self, machine_id: str) -> bool:
        """Start a machine again whose processes have ended; False when nothing of it is left."""
        async with _revival.alone(machine_id) as record:
            if record is None:
                return False
            if await self._join(record):
                return True  # another process was faster
            self._adopt(record)
            try:
                await self._make(asyncio.to_thread(_revival.launch_again, self.config, record))
                await self._greet()
            except BaseException as error:
                made, self._record = self._known(), None
                self._disconnect()
                refusal = _launch.refusal(made) if isinstance(error, MachineLostError) else error
                await asyncio.shield(asyncio.to_thread(made.end))
                if isinstance(refusal, MachineError | OSError):
                    raise _revival.failure(record, refusal) from error
                raise
        self._state = MachineState.RUNNING
        _revival.tell(record)
        return True

    async def _greet(self) -> None:
        channel, record = await self._connected(), self._known()
        env = _sandbox.environment(self.config, self.workdir)
        pairs = [os.fsencode(f"{name}={value}") for name, value in env.items()]
        await channel.call("init", os.fsencode(self.workdir), b"%d" % record.prefix, *pairs)
        await asyncio.to_thread(record.save)
        await channel.call("keep")  # until now, the machine ends when this process does

    async def _undo(self) -> None:
        record, self._record = self._record, None
        self._disconnect()
        if record is not None:
            await asyncio.to_thread(record.destroy)

    def _refusal(self, error: BaseException) -> MachineStartError | None:
        """Say why the supervisor does not answer, or could not be had, where that is not said already."""
        if isinstance(error, MachineLostError) and self._record is not None:
            return _launch.refusal(self._record)
        if isinstance(error, OSError) and not isinstance(error, MachineError):
            return MachineStartError(f"the local machine did not start: {error}", provider=PROVIDER, operation="start")
        return None

    async def stop(self) -> None:
        """End the first process, and with it all others; remove the home."""
        if self._record is not None:
            record = self._record
            if record.isolation == "none" and self._channel is not None:
                with contextlib.suppress(MachineLostError):
                    await (await self._connected()).call("shutdown")
            self._disconnect()
            with machine_errors(record.id, "stop"):
                await asyncio.to_thread(record.destroy)
        self._record = None
        self._state = MachineState.STOPPED

    async def pause(self) -> None:
        """Stop every process; the clocks of commands' timeouts stand still."""
        with machine_errors(self.id, "pause"):
            await (await self._connected()).call("pause")
        self._state = MachineState.PAUSED

    async def resume(self) -> None:
        """Continue what `pause` stopped."""
        with machine_errors(self.id, "resume"):
            await (await self._connected()).call("resume")
        self._state = MachineState.RUNNING

    async def terminate_processes(self) -> None:
        """Kill every process of the machine; also those of commands that are running."""
        with machine_errors(self.id, "terminate processes"):
            await (await self._connected()).call("terminate")

    async def close(self) -> None:
        """Let go of the machine; commands that run in the foreground end with their client."""
        self._disconnect()

    def _known(self) -> Record:
        if self._record is None:
            raise InvalidStateError("the machine is not running: call start() first", provider=PROVIDER)
        return self._record

    async def _connected(self) -> Channel:
        """Return the channel to the supervisor; a new one where the loop of the old one is another."""
        record, loop = self._known(), asyncio.get_running_loop()
        channel = self._channel
        if channel is not None and channel.loop is loop:
            if channel.lost is not None:
                raise channel.lost
            return channel
        self._disconnect()
        made = await Channel.connect(record.socket, record.id)
        if self._channel is not None and self._channel.loop is loop:
            made.close()  # another task was faster
            return self._channel
        self._channel = made
        return made

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        if not _is_plain(request):
            return await super().execute(request)
        self._check_user(request)
        channel = await self._connected()
        cwd = request.cwd if request.cwd is not None else self.workdir
        with machine_errors(self.id, "execute"), spawn_errors(self.id, cwd):
            return await collect(channel, request, _arguments(request, cwd))

    def _check_user(self, request: ExecRequest) -> None:
        if request.user not in (None, "user"):
            raise self.unsupported(f"run commands as {request.user!r}", Capability.USER)

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command; its output comes through pipes of this process, with nothing between."""
        self._check_user(request)
        channel = await self._connected()
        cwd = request.cwd if request.cwd is not None else self.workdir
        with machine_errors(self.id, "spawn"), spawn_errors(self.id, cwd):
            process, fds = _ends(channel, request)
            process.ident = channel.send("spawn", *_arguments(request, cwd), fds=fds, on_exit=process.exited)
            try:
                process.pid = int((await channel.answer(process.ident))[1])
            except BaseException:
                channel.tell(process.ident, "kill")
                process.discard()
                raise
        return process

    def hint(self, result: ExecResult) -> str | None:
        """Say so where a command failed because the network is off."""
        off = self._record is not None and self._record.isolation != "none" and self._record.network == "none"
        return _hints.network_hint(result) if off else None

    # Files

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        return await self._fetch("read", path, max_bytes, "read")

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        data = await self._fetch("list", path, MAX_LISTING_BYTES, "list")
        names = [os.fsdecode(name) for name in data.split(b"\0")] if data else []
        return sorted(name for name in names if "/" not in name and name not in ("", ".", ".."))

    async def _fetch(self, op: str, path: str, max_bytes: int, verb: str) -> bytes:
        """Read what the supervisor sends through a pipe, at most `max_bytes`, whatever it is up to."""
        target = self._path(path, verb)
        channel = await self._connected()
        kept = io.BytesIO()  # its value is handed out without a copy
        with file_errors(self.id, verb, path):
            source, sink = os.pipe()
            reader = PipeReader(source)
            ident = channel.send(op, target, b"%d" % max_bytes, fds=(sink,))
            answer = asyncio.ensure_future(channel.answer(ident, timeout=None))
            answer.add_done_callback(lambda _: reader.finish())
            try:
                async for data in reader:
                    if kept.tell() + len(data) > max_bytes:
                        raise file_error(
                            errno.EFBIG,
                            f"cannot {verb} {path!r} in the machine: it is larger than the limit of {max_bytes} bytes",
                            path=path,
                            machine_id=self.id,
                            provider=PROVIDER,
                            operation=verb,
                        )
                    kept.write(data)
                await answer
            finally:
                reader.close()
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
        return kept.getvalue()

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        target = self._path(path, "write")
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        channel = await self._connected()
        with file_errors(self.id, "write", path):
            source, sink = os.pipe()
            writer = PipeWriter(sink)
            ident = channel.send("write", target, b"%d" % len(content), fds=(source,))
            answer = asyncio.ensure_future(channel.answer(ident, timeout=None))
            answer.add_done_callback(lambda _: writer.abort())
            try:
                with contextlib.suppress(BrokenPipeError):  # the answer says why
                    await writer.write(content)
                await answer
            finally:
                writer.abort()
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)

    def _path(self, path: str, verb: str) -> bytes:
        if "\0" in path or not path:
            raise file_error(
                errno.EINVAL if path else errno.ENOENT,
                f"cannot {verb} {path!r} in the machine: expected a path",
                path=path,
                machine_id=self.id,
                provider=PROVIDER,
                operation=verb,
            )
        return os.fsencode(posixpath.join(self.workdir, path))


def _is_plain(request: ExecRequest) -> bool:
    """Whether nobody takes part in the command while it runs."""
    callbacks = (request.on_stdout, request.on_stderr, request.on_stdout_bytes, request.on_stderr_bytes)
    live = request.stdin is not None or request.open_stdin or request.terminal is not None
    return not live and all(callback is None for callback in callbacks)


def _ends(channel: Channel, request: ExecRequest) -> tuple[LocalProcess, Sequence[int]]:
    """Make the pipes of a command; return the process that has our ends, and the supervisor's ends."""
    if request.terminal is not None:
        out, out_w, into, into_w = make_pipes(2)
        return LocalProcess(channel, out, None, into_w), (out_w, into)
    out, out_w, err, err_w, *stdin = make_pipes(3 if request.open_stdin else 2)
    process = LocalProcess(channel, out, err, stdin[1] if stdin else None)
    return process, (os.dup(out), out_w, os.dup(err), err_w, *stdin[:1])


def _arguments(request: ExecRequest, cwd: str) -> list[bytes]:
    """Return a command as the fields of its request."""
    command = [os.fsencode(word) for word in request.command]
    size = request.terminal
    return [
        b"" if request.timeout is None or math.isinf(request.timeout) else b"%.6f" % request.timeout,
        os.fsencode(cwd),
        b"%d" % request.open_stdin if size is None else b"%dx%d" % (size.columns, size.rows),
        b"%d" % len(command),
        *command,
        *(os.fsencode(f"{name}={value}") for name, value in request.env.items()),
    ]


async def connect(machine_id: str, config: LocalConfig | None = None) -> LocalMachine:
    """Take over a local machine that runs already; see `LocalMachine.connect`."""
    return await LocalMachine.connect(machine_id, config)


async def find(label: str, config: LocalConfig | None = None) -> str | None:
    """Return the id of the machine that a session labelled, or None."""
    del config
    record = await asyncio.to_thread(_records.find, label)
    return record.id if record is not None else None


async def inventory(config: LocalConfig | None = None) -> dict[str, str]:
    """Return the labels of all machines that have one, by their ids."""
    del config
    records = await asyncio.to_thread(_records.all_records)
    return {record.id: record.label for record in records if record.label is not None}
