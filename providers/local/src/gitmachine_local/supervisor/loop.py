"""The supervisor's loop: it starts commands, sees them end, and moves files; nothing else in a machine does.

`wire` documents the protocol, `gitmachine_local._client` is its other end.
"""

from __future__ import annotations

import errno
import resource
import select
import sys
import time
from _thread import start_new_thread

from gitmachine_local.supervisor import tree
from gitmachine_local.supervisor.ends import Pipes
from gitmachine_local.supervisor.lean import accept, c_functions, join, os, signal, socket, stat, suppress
from gitmachine_local.supervisor.wire import Connection, close, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gitmachine_local.supervisor.ends import Ends
    from gitmachine_local.supervisor.wire import Words

START_SECONDS = 120.0
DEFAULT_PATH = b"/bin:/usr/bin"
EXEC_ERRORS = {
    errno.ENOENT: 127,
    errno.ENOTDIR: 127,
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG, errno.ELOOP), 126),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ETXTBSY, errno.EISDIR), 126),
}
"""What exec may say of the program that was asked for, as the exit code that shells give."""


class Command:
    """A command whose leader runs."""

    def __init__(self, connection: Connection, ident: bytes, pid: int, mark: int | None, ends: Ends) -> None:
        self.connection = connection
        self.ident = ident
        self.pid = pid
        self.ends = ends
        self.tree = tree.tree_of(pid, mark)
        self.deadline: float | None = None
        self.timed_out = False


class Supervisor:
    """One single-threaded loop; only file operations have threads."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.env: dict[bytes, bytes] = {}
        self.workdir = b"/"
        self.prefix = self.count = 0
        self.kept, self.born = False, time.monotonic()
        self.starter: Connection | None = None
        self.paused_since: float | None = None
        self.paused_total = 0.0
        self.frozen: dict[int, int] = {}
        self.commands: dict[int, Command] = {}
        self.finished: list[tuple[Connection, bytes, Words]] = []
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from inside, nothing may end the first process
        self.ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
        self.limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit[1], self.limit[1]))
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[], object]] = {}
        woken, self.waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(self.waker, False)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.watch(woken, lambda: self._wake(woken))
        self.watch(listener.fileno(), self._accept)

    def watch(self, fd: int, handler: Callable[[], object], events: int = select.POLLIN) -> None:
        """Call the handler when something can be done with the descriptor."""
        self.handlers[fd] = handler
        self.poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch it no more."""
        del self.handlers[fd]
        self.poll.unregister(fd)

    def _clock(self) -> float:
        """Seconds that stand still while the machine is paused."""
        return (time.monotonic() if self.paused_since is None else self.paused_since) - self.paused_total

    def run(self) -> None:
        """Serve until the machine ends."""
        while True:
            for fd, _events in self.poll.poll(self._next_timeout()):
                if fd in self.handlers:
                    self.handlers[fd]()
            if self.paused_since is None:
                self._expire()
            if not self.kept and time.monotonic() - self.born > START_SECONDS:
                self._end()

    def _next_timeout(self) -> int | None:
        deadlines = [command.deadline for command in self.commands.values() if command.deadline is not None]
        if not self.kept:
            return 1000
        if not deadlines or self.paused_since is not None:
            return None
        return int(max(0.0, min(3600.0, min(deadlines) - self._clock())) * 1000) + 1

    def _expire(self) -> None:
        now = self._clock()
        for command in list(self.commands.values()):
            if command.deadline is not None and command.deadline <= now:
                command.deadline, command.timed_out = None, True
                tree.slay(command.tree)

    def _end(self) -> None:
        """End the machine."""
        with suppress(OSError):
            tree.slay_all()
        os._exit(0)

    # Connections

    def _accept(self) -> None:
        with suppress(OSError):  # a client that went away again
            connection = Connection(accept(self.listener), self.poll, self._serve)
            self.watch(connection.fd, lambda: None if connection.receive() else self._hang_up(connection))

    def _serve(self, connection: Connection, fields: list[bytes]) -> None:
        words: Words | None
        try:
            words = getattr(self, f"_do_{fields[1].decode()}")(connection, fields[0], fields[2:])
        except OSError as error:
            words = failure(error)
        if words is not None:
            connection.reply(fields[0], words)

    def _hang_up(self, connection: Connection) -> None:
        """Forget a client. What it had in the foreground dies with it; what runs in the background lives on."""
        self.forget(connection.fd)
        connection.close()
        for command in list(connection.commands.values()):
            tree.slay(command.tree)
        for pipes in connection.held.values():
            self._drain(pipes)
        if connection is self.starter and not self.kept:
            self._end()

    def _do_init(self, connection: Connection, _ident: bytes, arguments: list[bytes]) -> Words:
        self.starter = connection
        self.workdir, self.prefix = arguments[0], int(arguments[1])
        self.env = dict(pair.split(b"=", 1) for pair in arguments[2:])
        return ("ok", 0)

    def _do_keep(self, _connection: Connection, _ident: bytes, _arguments: list[bytes]) -> Words:
        self.kept = True
        return ("ok", 0)

    def _do_hello(self, _connection: Connection, _ident: bytes, _arguments: list[bytes]) -> Words:
        return ("ok", int(self.paused_since is not None))

    # Commands

    def _do_spawn(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> Words | None:
        pid, code = self._launch(connection, ident, arguments)
        connection.reply(ident, ("started", pid))
        return ("exit", code, 0) if pid == 0 else None

    def _do_run(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> Words | None:
        pid, code = self._launch(connection, ident, arguments)
        return ("exit", code, 0) if pid == 0 else None

    def _launch(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> tuple[int, int]:
        """Start a command; returns its pid, or 0 and the exit code that stands for what exec said."""
        timeout, cwd, count = arguments[0], arguments[1], int(arguments[3])
        ends: Ends
        if b"x" in arguments[2]:
            from gitmachine_local.supervisor.terminal import Terminal

            ends = Terminal(self, connection.take(2), arguments[2])
        else:
            ends = Pipes(connection.take(4 + int(arguments[2])))
        begun = False
        try:
            if self.paused_since is not None:
                raise OSError(errno.EBUSY, "the machine is paused", b"")
            os.chdir(join(self.workdir, cwd))
            env = {**self.env, **dict(pair.split(b"=", 1) for pair in arguments[4 + count :])}
            argv = arguments[4 : 4 + count]
            try:
                pid, mark = self._start(argv, env, ends)
            except OSError as error:
                if error.errno not in EXEC_ERRORS:
                    raise OSError(error.errno, error.strerror, b"") from error
                code = EXEC_ERRORS[error.errno]
                what = "command not found" if code == 127 else os.strerror(error.errno).lower()
                ends.complain(argv[0][:1000] + b": " + what.encode())
                return 0, code
            begun = True
        finally:
            os.chdir("/")
            if not begun:
                ends.abandon()
        ends.begin()
        command = self.commands[pid] = connection.commands[ident] = Command(connection, ident, pid, mark, ends)
        if timeout:
            command.deadline = self._clock() + float(timeout)
        return pid, 0

    def _start(self, argv: list[bytes], env: dict[bytes, bytes], ends: Ends) -> tuple[int, int | None]:
        """Spawn by vfork, which copies nothing; what the child inherits is set on this process for the moment."""
        path = find(argv[0], env.get(b"PATH", DEFAULT_PATH))
        self.count += 1
        mark = self.prefix << 24 | self.count & 0xFFFFFF
        marked = tree.set_mark(mark)
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limit)
        try:
            pid = os.posix_spawn(
                path, argv, env, file_actions=ends.actions(), setsid=True, setsigmask=(), setsigdef=self.ignored
            )
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit[1], self.limit[1]))
        return pid, mark if marked else None

    def _wake(self, fd: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 4096)
        while self.finished:
            connection, ident, words = self.finished.pop(0)
            connection.reply(ident, words)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self.commands:
                    self._ended(self.commands.pop(pid), os.waitstatus_to_exitcode(status))

    def _ended(self, command: Command, code: int) -> None:
        connection = command.connection
        command.ends.end()
        del connection.commands[command.ident]
        connection.reply(command.ident, ("exit", code if code >= 0 else 128 - code, int(command.timed_out)))
        writers = select.poll()
        for fd in command.ends.kept:
            writers.register(fd, 0)
        free = [fd for fd, events in writers.poll(0) if events & select.POLLHUP]
        close(*free)
        held = [fd for fd in command.ends.kept if fd not in free]
        if held and connection.open:
            connection.held[command.ident] = held  # until the client has read what was written before the exit
        else:
            self._drain(held)

    def _do_drop(self, connection: Connection, ident: bytes, _arguments: list[bytes]) -> None:
        self._drain(connection.held.pop(ident, []))

    def _drain(self, pipes: Sequence[int]) -> None:
        """Read to nowhere what background processes go on writing, so that they neither block nor die."""
        for fd in pipes:
            os.set_blocking(fd, False)
            self.watch(fd, lambda fd=fd: self._discard(fd))  # type: ignore[misc]  # a default is how a loop binds

    def _discard(self, fd: int) -> None:
        with suppress(BlockingIOError):
            if not os.read(fd, 1 << 18):
                self.forget(fd)
                os.close(fd)

    def _do_kill(self, connection: Connection, ident: bytes, _arguments: list[bytes]) -> None:
        if ident in connection.commands:
            tree.slay(connection.commands[ident].tree)

    def _do_resize(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> None:
        command = connection.commands.get(ident)
        if command is not None:
            command.ends.resize(arguments[0], arguments[1])

    # The machine

    def _do_pause(self, _connection: Connection, _ident: bytes, _arguments: list[bytes]) -> Words:
        if self.paused_since is None:
            self.frozen = tree.freeze(tree.members)
            self.paused_since = time.monotonic()
        return ("ok", 1)

    def _do_resume(self, _connection: Connection, _ident: bytes, _arguments: list[bytes]) -> Words:
        if self.paused_since is not None:
            tree.thaw(self.frozen)
            self.paused_total += time.monotonic() - self.paused_since
            self.paused_since, self.frozen = None, {}
        return ("ok", 0)

    def _do_terminate(self, _connection: Connection, _ident: bytes, _arguments: list[bytes]) -> Words:
        tree.slay_all()
        return ("ok", 0)

    def _do_shutdown(self, connection: Connection, ident: bytes, _arguments: list[bytes]) -> None:
        tree.slay_all()
        connection.reply(ident, ("ok", 0))
        os._exit(0)

    # Files

    def _in_thread(self, connection: Connection, ident: bytes, work: Callable[..., int], *arguments: object) -> None:
        (fd,) = connection.take(1)

        def body() -> None:
            words: Words
            try:
                words = ("ok", work(*arguments, fd))
            except OSError as error:
                words = failure(error)
            except MemoryError:
                words = ("error", errno.ENOMEM, b"")
            os.close(fd)
            self.finished.append((connection, ident, words))
            with suppress(BlockingIOError):  # full of wake-ups: it will wake
                os.write(self.waker, b"f")

        try:
            start_new_thread(body, ())
        except RuntimeError as error:
            os.close(fd)
            raise OSError(errno.EAGAIN, "no thread can be started", b"") from error

    def _do_read(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> None:
        from gitmachine_local.supervisor import files

        self._in_thread(connection, ident, files.read_file, join(self.workdir, arguments[0]), int(arguments[1]))

    def _do_write(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> None:
        from gitmachine_local.supervisor import files

        self._in_thread(connection, ident, files.write_file, join(self.workdir, arguments[0]), int(arguments[1]))

    def _do_list(self, connection: Connection, ident: bytes, arguments: list[bytes]) -> None:
        from gitmachine_local.supervisor import files

        self._in_thread(connection, ident, files.list_files, join(self.workdir, arguments[0]))


def find(program: bytes, path: bytes) -> bytes:
    """Return the file to execute, as a shell would choose it."""
    if b"/" in program:
        return program
    denied = False
    for folder in path.split(b":"):
        candidate = join(folder or b".", program)
        with suppress(OSError):
            if stat.S_ISREG(os.stat(candidate).st_mode):
                if os.access(candidate, os.X_OK):
                    return candidate if b"/" in candidate else b"./" + candidate
                denied = True
    number = errno.EACCES if denied else errno.ENOENT
    raise OSError(number, os.strerror(number), program)


def harden() -> None:
    """Keep the machine's other processes out of this one, adopt orphans, and leave the client's key ring."""
    call = c_functions()
    call("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: no ptrace, no /proc/PID/fd or environ
    call("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    call("prctl", 15, b"gitmachine", 0, 0, 0)  # PR_SET_NAME
    keyctl = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if keyctl is not None:
        call("syscall", keyctl, 1, 0, 0, 0, 0)  # KEYCTL_JOIN_SESSION_KEYRING, a new one


def main() -> None:
    """Serve the listening socket whose descriptor is the first argument, until the machine ends."""
    os.umask(0o022)
    harden()
    listener = int(sys.argv[1])
    os.set_inheritable(listener, False)  # a command that had it could pose as this process
    os.closerange(3, listener)  # what bubblewrap needed to make the sandbox
    os.closerange(listener + 1, 256)
    Supervisor(socket.socket(fileno=listener)).run()
