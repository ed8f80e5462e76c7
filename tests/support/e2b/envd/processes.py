"""Real processes of a sandbox and who listens to them (reference, 2.4)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from support.e2b.envd.accounts import Account
from support.e2b.envd.connect import ConnectError, Message

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIPE_CHUNK = 32768
PTY_CHUNK = 16384
BACKLOG = 16
RETENTION_SECONDS = 30.0

# A missing program is no error of the call: the shell says so and exits with 127, as real envd's wrapper does.
_PLAIN = 'exec "$@"'
# The session's leader opens the terminal, which makes it the controlling one.
_TERMINAL = 'exec <>"$0" >&0 2>&0; exec "$@"'


class Subscriber:
    """One stream's queue of events; a full one holds the process back, and so all other streams."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue(BACKLOG)
        self._closed = asyncio.Event()

    async def put(self, event: Message) -> None:
        if self._closed.is_set():
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            await self._wait(event)

    async def _wait(self, event: Message) -> None:
        waits = [asyncio.ensure_future(self._queue.put(event)), asyncio.ensure_future(self._closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def get(self) -> Message:
        return await self._queue.get()

    def close(self) -> None:
        self._closed.set()


class Process:
    """A process: its output goes to whoever listens now and is discarded when nobody does."""

    def __init__(self, popen: subprocess.Popen[bytes], config: Message, tag: str | None, pty: int | None) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.config = config
        self.tag = tag
        self.pty = pty
        self.stdin = None if popen.stdin is None else os.dup(popen.stdin.fileno())
        if popen.stdin is not None:
            popen.stdin.close()
        self.subscribers: set[Subscriber] = set()
        self.signalled = False
        self.end: Message | None = None
        self.exit_status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._input = asyncio.Lock()

    # Output

    def subscribe(self) -> Subscriber:
        subscriber = Subscriber()
        self.subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        subscriber.close()
        self.subscribers.discard(subscriber)

    async def _tell(self, event: Message) -> None:
        for subscriber in list(self.subscribers):
            await subscriber.put(event)

    async def _pump(self, fd: int, kind: str, size: int) -> None:
        async for data in _chunks(fd, size):
            if self.subscribers:
                await self._tell({"event": {"data": {kind: base64.b64encode(data).decode()}}})

    async def run(self) -> None:
        """Carry output until the process has ended, and tell its end.

        It waits for the pipes to close unless the process was signalled, as real envd does.
        """
        if self.pty is not None:
            sources = [(self.pty, "pty", PTY_CHUNK)]
        else:
            assert self.popen.stdout is not None
            assert self.popen.stderr is not None
            sources = [
                (self.popen.stdout.fileno(), "stdout", PIPE_CHUNK),
                (self.popen.stderr.fileno(), "stderr", PIPE_CHUNK),
            ]
        for fd, _, _ in sources:
            os.set_blocking(fd, False)
        pumps = [asyncio.ensure_future(self._pump(*source)) for source in sources]
        try:
            status = await self.exit_status
            if not self.signalled and self.pty is None:
                await asyncio.gather(*pumps)
            elif not self.signalled:
                await asyncio.wait(pumps, timeout=1)  # what the terminal still holds
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._close()
        self.end = _end_event(status)
        await self._tell(self.end)

    def _close(self) -> None:
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        self.close_stdin()
        if self.pty is not None:
            os.close(self.pty)
            self.pty = None

    # Control

    async def write(self, data: bytes, *, to_pty: bool) -> None:
        """Write input; blocks while the process does not read."""
        fd = self.pty if to_pty else self.stdin
        if fd is None:
            what = "pty" if to_pty else "stdin"
            raise ConnectError("internal", f"error writing to {what}: {what} not enabled or closed")
        async with self._input:
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    await _ready(fd, asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)
                except OSError as error:
                    raise ConnectError("internal", f"error writing to stdin: {error.strerror}") from error

    def close_stdin(self) -> None:
        if self.stdin is not None:
            asyncio.get_running_loop().remove_writer(self.stdin)
            os.close(self.stdin)
            self.stdin = None

    def signal(self, number: int) -> None:
        """Signal the process alone: its children do not hear of it."""
        self.signalled = True
        if not self.exit_status.done():
            os.kill(self.pid, number)

    def resize(self, columns: int, rows: int) -> None:
        if self.pty is None:
            raise ConnectError("internal", "tty not assigned to process")
        fcntl.ioctl(self.pty, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _end_event(status: int) -> Message:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        text = f"signal: {_signal_name(-code)}"
        return {"event": {"end": {"exitCode": -1, "status": text, "error": text}}}
    text = f"exit status {code}"
    if code == 0:
        return {"event": {"end": {"exited": True, "status": text}}}
    return {"event": {"end": {"exitCode": code, "exited": True, "status": text, "error": text}}}


def _signal_name(number: int) -> str:
    return (signal.strsignal(number) or f"signal {number}").lower()


class Table:
    """The processes of a sandbox; those that ended are kept for 30 seconds."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self) -> None:
        """Reap children, also those whose parents died: this is the sandbox's first process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._processes.get(pid)
            if process is not None and not process.exit_status.done():
                process.popen.returncode = os.waitstatus_to_exitcode(status)
                process.exit_status.set_result(status)

    def running(self) -> Iterable[Process]:
        return [process for process in self._processes.values() if process.end is None]

    def start(
        self, popen: subprocess.Popen[bytes], config: Message, tag: str | None, pty: int | None
    ) -> tuple[Process, Subscriber]:
        process = Process(popen, config, tag, pty)
        self._processes[process.pid] = process
        subscriber = process.subscribe()
        task = asyncio.ensure_future(self._live(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return process, subscriber

    async def _live(self, process: Process) -> None:
        await process.run()
        await asyncio.sleep(RETENTION_SECONDS)
        if self._processes.get(process.pid) is process:
            del self._processes[process.pid]

    def find(self, selector: Message, *, ended: bool = False) -> Process:
        """Find a process by pid or tag; `ended` accepts one that is only retained.

        A tag is looked for as real envd does: the search stops at the first tagged process with another tag.
        """
        pid, tag = selector.get("pid"), selector.get("tag")
        if pid is not None:
            process = self._processes.get(int(pid))
            if process is None or (process.end is not None and not ended):
                raise ConnectError("not_found", f"process with pid {pid} not found")
            return process
        for process in self.running():
            if process.tag is not None:
                if process.tag == tag:
                    return process
                break
        raise ConnectError("not_found", f"process with tag {tag} not found")


def spawn(
    argv: list[str], account: Account, cwd: str, env: Mapping[str, str], *, stdin: bool, size: tuple[int, int] | None
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start a program as a user in a clean environment; with a `size` (columns, rows) on a terminal of its own."""
    base = {"PATH": PATH, "HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    options: dict[str, Any] = {"cwd": cwd, "env": {**base, **env}}
    if os.getuid() == 0 and account.uid != 0:
        options.update(user=account.uid, group=account.gid, extra_groups=[])
    if size is None:
        source = subprocess.PIPE if stdin else subprocess.DEVNULL
        argv = ["/bin/sh", "-c", _PLAIN, "envd", *argv]
        popen = subprocess.Popen(
            argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options
        )
        if popen.stdin is not None:
            os.set_blocking(popen.stdin.fileno(), False)
        return popen, None
    master, slave = os.openpty()
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        os.fchown(slave, account.uid, -1)
        argv = ["/bin/sh", "-c", _TERMINAL, os.ttyname(slave), *argv]
        # Until the shell has opened the terminal its own output has nowhere to go.
        null = subprocess.DEVNULL
        popen = subprocess.Popen(
            argv, stdin=null, stdout=null, stderr=null, start_new_session=True, pass_fds=[slave], **options
        )
    except OSError:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return popen, master


async def _ready(fd: int, add: Callable[..., None], remove: Callable[[int], Any]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, ready)
    try:
        await future
    finally:
        remove(fd)


async def _chunks(fd: int, size: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            await _ready(fd, loop.add_reader, loop.remove_reader)
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # every end of the terminal is closed
                return
            raise
        if not data:
            return
        yield data


@contextlib.asynccontextmanager
async def listening(process: Process, subscriber: Subscriber) -> AsyncIterator[Subscriber]:
    """Listen for the time of a block."""
    try:
        yield subscriber
    finally:
        process.unsubscribe(subscriber)
