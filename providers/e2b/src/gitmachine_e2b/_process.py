"""A live command in a sandbox: one stream of messages, taken apart into its output and its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from gitmachine import MachineUnreachableError, Process, UnsupportedOperation
from gitmachine_e2b import _markers
from gitmachine_e2b._errors import PROBLEMS, PROVIDER, Broken, Refusal
from gitmachine_e2b._events import Ended, Output, Started, decode_event
from gitmachine_e2b._pipes import InputWriter, OutputPipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from gitmachine import GitMachineError, TerminalSize
    from gitmachine.execution import ByteWriter
    from gitmachine_e2b._envd import Envd

KILL_WAIT_SECONDS = 2.0
KILL_ATTEMPTS = 3
ASK_SECONDS = 10.0


class E2BProcess(Process):
    """A command in a sandbox, behind the wrapper that tells its end."""

    def __init__(
        self,
        envd: Envd,
        *,
        token: str,
        mark: str,
        terminal: bool,
        open_stdin: bool,
        killer: Callable[[str], Awaitable[None]],
        explain: Callable[[Exception], Awaitable[GitMachineError]],
    ) -> None:
        """Prepare a process that `begin` starts.

        Args:
            envd: the sandbox's daemon.
            token: what notices of this command hold.
            mark: what its processes carry.
            terminal: whether it runs on a terminal, without a wrapper's notice of its end.
            open_stdin: whether it has an input.
            killer: kills all processes with a mark.
            explain: finds out what a problem of the stream means for the machine.
        """
        self.envd = envd
        self.token = token
        self.mark = mark
        self.terminal = terminal
        self.pid = 0
        self.ended = asyncio.Event()
        self._killer = killer
        self._explain = explain
        self._exit_code = 0
        self._failure: GitMachineError | None = None
        self._output = OutputPipe()
        self._errors = OutputPipe()
        self._pipes = {"stdout": self._output, "stderr": self._errors, "pty": self._output}
        self._scanners = {kind: _markers.Scanner(token) for kind in self._pipes}
        self._finished: set[str] = set()
        self._synced: dict[str, set[str]] = {}
        self._sync_changed = asyncio.Event()
        self._stdin = InputWriter(self, pty=terminal, ends=envd.address.has(0, 5, 2)) if open_stdin else None
        self._reader: asyncio.Task[None] | None = None
        self._started: asyncio.Future[int] | None = None
        if terminal:
            self._errors.end()

    # Its beginning

    async def begin(self, message: Mapping[str, Any], *, user: str | None) -> None:
        """Start it.

        Raises:
            Refusal: it was not started.
            Broken: it may have been started.
        """
        await self._follow("process.Process/Start", message, user)

    async def reattach(self, envd: Envd) -> None:
        """Follow it again, after `detach`; raises as `begin` does."""
        self.envd = envd
        if not self.over:
            for pipe in self._pipes.values():
                pipe.limit()
            await self._follow("process.Process/Connect", {"process": {"pid": self.pid}}, None)

    async def _follow(self, method: str, message: Mapping[str, Any], user: str | None) -> None:
        self._started = asyncio.get_running_loop().create_future()
        self._reader = asyncio.ensure_future(self._read(method, message, user))
        try:
            async with asyncio.timeout(self.envd.seconds):
                self.pid = await self._started
        except TimeoutError as error:
            await self.detach()
            raise Broken(f"no answer within {self.envd.seconds:g} s", sent=True) from error
        except BaseException:
            await self.detach()
            raise

    async def detach(self) -> None:
        """Stop following it; it goes on."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._started is not None and self._started.done() and not self._started.cancelled():
            self._started.exception()  # seen, whoever waited for it

    # Its stream

    async def _read(self, method: str, message: Mapping[str, Any], user: str | None) -> None:
        problem: Exception = Broken("the stream ended without the command's end", sent=True)
        try:
            async with self.envd.stream(method, message, user=user) as messages:
                async for payload in messages:
                    await self._take(payload)
            if self.terminal and not self.over:
                await self._ask_for_end()
        except PROBLEMS as error:
            problem = error
        if self._started is not None and not self._started.done():
            self._started.set_exception(problem)
        elif not self.over:
            self._fail(await self._explain(problem))

    async def _ask_for_end(self) -> None:
        """Ask for an end that the stream did not tell, though it ended well: it is kept for half a minute."""
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(ASK_SECONDS),
                self.envd.stream("process.Process/Connect", {"process": {"pid": self.pid}}) as messages,
            ):
                async for payload in messages:
                    event = decode_event(payload)
                    if isinstance(event, Output):
                        return  # it goes on, and what it wrote meanwhile is lost
                    await self._take(payload)

    async def _take(self, payload: bytes) -> None:
        event = decode_event(payload)
        if isinstance(event, Output):
            if not self.over:
                await self._scan(event.kind, event.data)
        elif isinstance(event, Started):
            if self._started is not None and not self._started.done():
                self._started.set_result(event.pid)
        elif isinstance(event, Ended):
            await self._end(event.exit_code)

    async def _scan(self, kind: str, data: bytes) -> None:
        pipe = self._pipes[kind]
        for found in self._scanners[kind].feed(data):
            if isinstance(found, bytes):
                await pipe.put(found)
            elif found.kind == _markers.SYNC:
                self._synced.setdefault(found.value, set()).add(kind)
                self._sync_changed.set()
            else:
                self._finished.add(kind)
                if found.value:
                    self._exit_code = int(found.value)
                if self._finished >= {"stdout", "stderr"}:
                    self._finish()
                    return

    async def _end(self, code: int) -> None:
        """Take note of the process's own end; without notices, its wrapper was ended from outside."""
        if self.over:
            return
        for kind, scanner in self._scanners.items():
            rest = scanner.rest()
            if rest and kind not in self._finished:
                await self._pipes[kind].put(rest)
        if "stdout" not in self._finished:
            self._exit_code = code
        self._finish()

    def _finish(self) -> None:
        self._output.end()
        self._errors.end()
        self.ended.set()
        self._sync_changed.set()

    def _fail(self, failure: GitMachineError) -> None:
        self._failure = failure
        self._output.end(failure)
        self._errors.end(failure)
        self.ended.set()
        self._sync_changed.set()

    @property
    def over(self) -> bool:
        """Whether it has ended, or is lost."""
        return self.ended.is_set()

    @property
    def following(self) -> bool:
        """Whether its stream is open: also after its end, while something that it left behind holds its output."""
        return self._reader is not None and not self._reader.done()

    async def synced(self, value: str) -> None:
        """Wait until all output was read that was written before a notice with this value, or it is over."""
        self._output.open_up()
        self._errors.open_up()
        kinds = {"pty"} if self.terminal else {"stdout", "stderr"}
        while not self.over and not self._synced.get(value, set()) >= kinds:
            self._sync_changed.clear()
            await self._sync_changed.wait()
        self._synced.pop(value, None)

    async def hold_input(self, seconds: float) -> None:
        """Let what is being written arrive, within a deadline, and begin nothing new until `release_input`."""
        if self._stdin is not None:
            await self._stdin.hold(seconds)

    def release_input(self) -> None:
        """Undo `hold_input`."""
        if self._stdin is not None:
            self._stdin.release()

    async def abandon(self, why: str) -> None:
        """Stop following it for good; whoever waits for it is told why."""
        await self.detach()
        if not self.over:
            self._fail(
                MachineUnreachableError(
                    f"the command is not followed any more: {why}",
                    machine_id=self.envd.address.sandbox_id,
                    provider=PROVIDER,
                    operation="execute",
                )
            )

    async def explained(self, problem: Exception) -> GitMachineError:
        """Return a problem with it as one of GitMachine's errors."""
        return await self._explain(problem)

    # What a process is

    @property
    def id(self) -> str:
        """The pid in the sandbox."""
        return str(self.pid)

    @property
    def stdin(self) -> ByteWriter:
        """The input; the request had `open_stdin`, or a terminal."""
        if self._stdin is None:
            raise BrokenPipeError("the command has no input: ask for open_stdin in its request")
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives."""
        return self._output

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self._errors

    async def wait(self) -> int:
        """Wait for the exit code."""
        await self.ended.wait()
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    async def kill(self) -> None:
        """Kill the whole process tree, and wait a moment for the end."""
        if self.over:
            if self._failure is not None:
                await self._killer(self.mark)  # only its stream is known to have ended
            return
        self._output.open_up()
        self._errors.open_up()
        for attempt in range(KILL_ATTEMPTS):
            await self._killer(self.mark)
            if await self._over_within(KILL_WAIT_SECONDS):
                return
            if attempt and self.terminal:
                await self._signal()
        # not found by its mark: it was killed before it had one
        await self._signal()
        await self._over_within(KILL_WAIT_SECONDS)

    async def _signal(self) -> None:
        with contextlib.suppress(*PROBLEMS):
            await self.envd.send_signal(self.pid)

    async def _over_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        return self.over

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of the terminal."""
        if not self.terminal:
            raise UnsupportedOperation(
                f"the process {self.pid} has no terminal to make {size.columns} x {size.rows}", provider=PROVIDER
            )
        try:
            await self.envd.resize(self.pid, size.columns, size.rows)
        except PROBLEMS as problem:
            if not (isinstance(problem, Refusal) and problem.code == "not_found"):
                raise await self._explain(problem) from problem
