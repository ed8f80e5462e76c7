"""Commands by the engine's exec: the plain way, for terminals, live input and what the warm channel cannot serve."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
from typing import TYPE_CHECKING

import attrs

from gitmachine import MachineError, Process
from gitmachine.errors import file_error
from gitmachine.streams import PushedOutputs
from gitmachine_local_docker._errors import FOREIGN, PROVIDER
from gitmachine_local_docker._words import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from gitmachine import TerminalSize
    from gitmachine.execution import ByteWriter
    from gitmachine_local_docker._engine import Engine
    from gitmachine_local_docker._hijack import Hijacked

__all__ = ["DockerProcess", "ExecSpec", "start_process"]

UNREAD_SECONDS = 5.0
GREETING_SECONDS = 60.0

# Says where it is before it becomes the command: the token, then + and its pid, or why it cannot. The mark survives
# setsid, `env -i` and setuid, so that the whole tree is found again (see gitmachine.machines.channel).
_BEGIN = """\
cd -P -- "$2" 2>/dev/null || {
  if [ -d "$2" ]; then r=p; elif [ -e "$2" ]; then r=f; else r=n; fi
  printf '%s-%s\\n' "$1" $r; exit 1
}
unset OLDPWD
[ -z "$3" ] || ulimit -S -x "$3" 2>/dev/null || ulimit -S -w "$3" 2>/dev/null
[ -z "$4" ] || stty cols "${4% *}" rows "${4#* }" 2>/dev/null
printf '%s+%s\\n' "$1" $$
shift 4
"""
_REFUSALS = {
    "n": (errno.ENOENT, "does not exist in the machine"),
    "f": (errno.ENOTDIR, "is not a directory"),
    "p": (errno.EACCES, "cannot be entered: permission denied"),
}


@attrs.frozen(kw_only=True)
class ExecSpec:
    """One command for the engine's exec.

    Attributes:
        argv: the program and its arguments.
        cwd: an absolute path.
        env: added to the container's environment.
        user: the user, as Docker takes it.
        stdin: whether the input stays open.
        terminal: the terminal to run on, or None.
        mark: what its process tree is known by, or "".
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    user: str
    stdin: bool = False
    terminal: TerminalSize | None = None
    mark: str = ""


class _Input:
    """The input of a command."""

    def __init__(self, stream: Hijacked) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        """Write all of data; raises BrokenPipeError when nobody reads any more."""
        for at in range(0, len(data), 1 << 20):
            await self._stream.send(data[at : at + (1 << 20)])

    async def close(self) -> None:
        """End the input."""
        self._stream.end_input()


class DockerProcess(Process):
    """A command that the engine runs."""

    def __init__(
        self,
        stream: Hijacked,
        *,
        exit_code: Callable[[], Awaitable[int]],
        kill: Callable[[], Awaitable[None]],
        resize: Callable[[TerminalSize], Awaitable[None]] | None,
        has_input: bool,
        token: str,
    ) -> None:
        self._stream = stream
        self._ask_exit_code = exit_code
        self._kill = kill
        self._resize = resize
        self._stdin = _Input(stream) if has_input else None
        self._outputs = PushedOutputs(stream.hold)
        self._token = token.encode()
        self._greeting: bytes | None = b""
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[str] = loop.create_future()
        """What the process said before it became the command."""
        self._over: asyncio.Future[int] = loop.create_future()
        self._ending: asyncio.Task[None] | None = None
        self.pid = "0"

    def begin(self) -> None:
        """Take what arrives from now on."""
        self._stream.deliver(self._feed, self._stream_ended)

    def _feed(self, number: int, data: bytes) -> None:
        if self._greeting is not None and number == 1:
            data = self._greet(data)
        if not data:
            return
        self._outputs.feed(1 if number == 1 else 2, data)

    def _greet(self, data: bytes) -> bytes:
        assert self._greeting is not None
        self._greeting += data
        at = self._greeting.find(b"\n")
        if at < 0:
            return b""
        # A terminal ends lines with CR LF. What is no greeting is the runtime's own complaint.
        line, rest, self._greeting = self._greeting[:at].rstrip(b"\r"), self._greeting[at + 1 :], None
        said = line.removeprefix(self._token) if line.startswith(self._token) else b"!" + line + b"\n" + rest
        if not self.greeted.done():
            self.greeted.set_result(said.decode("utf-8", "replace"))
        return rest

    def _stream_ended(self) -> None:
        self._outputs.finish()
        if not self.greeted.done():
            self.greeted.set_result("!" + (self._greeting or b"").decode("utf-8", "replace"))
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._conclude())

    async def _conclude(self) -> None:
        try:
            code = await self._ask_exit_code()
        except MachineError as error:
            if not self._over.done():
                self._over.set_exception(error)
                self._over.exception()  # nobody has to wait for it
        else:
            if not self._over.done():
                self._over.set_result(code)

    @property
    def id(self) -> str:
        """The pid inside the container."""
        return self.pid

    @property
    def stdin(self) -> ByteWriter:
        """The input; the request had `open_stdin`."""
        if self._stdin is None:
            raise BrokenPipeError("the command has no input: ask for open_stdin in its request")
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives; with a terminal, everything."""
        return self._outputs.stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self._outputs.stderr

    async def wait(self) -> int:
        """Wait for the exit code."""
        return await asyncio.shield(self._over)

    async def kill(self) -> None:
        """Kill the whole process tree, and wait a moment for its output to end."""
        if self._over.done() or self._stream.lost:
            return
        self._outputs.open_up()
        await self._kill()
        with contextlib.suppress(TimeoutError, MachineError):
            async with asyncio.timeout(UNREAD_SECONDS):
                await self.wait()
        self._stream.close()

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of the terminal."""
        if self._resize is None:
            await super().resize(size)
        elif not self._stream.lost:
            await self._resize(size)

    def discard(self) -> None:
        """Let go of the streams."""
        self._stream.close()


async def start_process(
    engine: Engine,
    container: str,
    spec: ExecSpec,
    *,
    kill: Callable[[], Awaitable[None]],
    exit_code: Callable[[str], Awaitable[int]],
) -> DockerProcess:
    """Start a command and return when it runs.

    Args:
        engine: where.
        container: the container's id.
        spec: what to run.
        kill: kills the process tree.
        exit_code: tells the exit code of an exec that has ended.

    Raises:
        MachineFileError: its directory cannot be entered; nothing ran.
        aiodocker.DockerError: the engine refused.
    """
    token = f"\x1e{secrets.token_hex(16)}"
    size = f"{spec.terminal.columns} {spec.terminal.rows}" if spec.terminal is not None else ""
    argv, env = embedded(_BEGIN, [token, spec.cwd, spec.mark, size], spec.argv, spec.env)
    exec_id = await engine.create_exec(
        container, argv, env=env, user=spec.user, stdin=spec.stdin, tty=bool(spec.terminal)
    )
    stream = await engine.start_exec(exec_id, tty=spec.terminal is not None)
    terminal = spec.terminal

    async def resize(size: TerminalSize) -> None:
        await engine.resize_exec(exec_id, size)

    process = DockerProcess(
        stream,
        exit_code=lambda: exit_code(exec_id),
        kill=kill,
        resize=resize if terminal is not None else None,
        has_input=spec.stdin,
        token=token,
    )
    process.begin()
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            said = await asyncio.shield(process.greeted)
        _judge(said, spec, container, await process.wait() if said.startswith("!") else 0)
    except BaseException:
        process.discard()
        raise
    if terminal is not None:  # the engine refuses it earlier, and where there is no `stty` this is the only way
        with contextlib.suppress(*FOREIGN):  # a command that has ended already has no size
            await engine.resize_exec(exec_id, terminal)
    process.pid = said[1:]
    return process


def _judge(said: str, spec: ExecSpec, container: str, code: int) -> None:
    """Raise what keeps a command from having been started."""
    if said.startswith("-"):
        number, reason = _REFUSALS.get(said[1:2], _REFUSALS["p"])
        raise file_error(
            number,
            f"the working directory {spec.cwd!r} {reason}",
            path=spec.cwd,
            machine_id=container,
            provider=PROVIDER,
            operation="spawn",
        )
    if said.startswith("!"):
        reason = " ".join(said[1:].split()) or f"it ended with {code} before it began"
        raise MachineError(
            f"the machine cannot start {spec.argv[0]!r}: {reason}",
            machine_id=container,
            provider=PROVIDER,
            operation="spawn",
        )
