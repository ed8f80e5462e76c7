"""Shells on the host, opened ahead: what a login costs (its rc files above all) is paid before anybody waits."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import attrs

from gitmachine import GitMachineError, MachineError, MachineUnreachableError
from gitmachine.machines.channel.scanner import MarkerScanner
from gitmachine_ssh._boot import shell_command
from gitmachine_ssh._errors import BROKEN, PROVIDER, session_errors
from gitmachine_ssh._session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.machines.channel import Receiver, StreamNumber
    from gitmachine_ssh._link import Link

__all__ = ["Answer", "Shells", "new_token"]

HELLO_SECONDS = 20.0
"""How long a login may take: the slowest rc files anybody lives with."""
SPARE = 1


def new_token() -> str:
    """Return a word that nobody can guess."""
    return secrets.token_hex(16)


@attrs.frozen(kw_only=True)
class Answer:
    """What a script of ours said."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""


class Shells:
    """Takes shells from the link; keeps a few ready."""

    def __init__(self, link: Link, sh: str) -> None:
        """Keep nothing yet."""
        self.link = link
        self.noisy = False
        """Whether a login has printed something of its own."""
        self.preamble = b""
        """What each shell is told first: the machine's environment, once there is a machine."""
        self.sh = sh
        self._ready: list[Session] = []
        self._taken: dict[Session, str] = {}
        self.orphans: dict[int, str] = {}
        """The shells whose connection was cut, with the word in their environment: what runs in them runs on."""
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    async def take(self, receiver: Receiver) -> Session:
        """Return a shell that waits for a script, delivering to this receiver.

        Raises:
            MachineUnreachableError: there is no connection.
            QuotaError: the host gives no more sessions.
            MachineError: the login shell does not run ``sh``.
        """
        session = await self._get()
        self._refill()
        self._taken[session] = session.hello
        session.attach(receiver)
        session.write(self.preamble)
        return session

    async def _get(self) -> Session:
        self._ready = [session for session in self._ready if not session.is_over]
        return self._ready.pop() if self._ready else await self._open()

    async def _open(self) -> Session:
        hello = new_token()
        session = await self.link.session(
            lambda done: Session(hello, done=self._then(done)), command=shell_command(self.sh, hello)
        )
        await self.greeted(session)
        self.noisy = self.noisy or session.noisy
        return session

    def _then(self, done: Callable[[Session], None]) -> Callable[[Session], None]:
        def over(session: Session) -> None:
            done(session)
            hello = self._taken.pop(session, None)
            if hello is not None and session.error is not None and session.pid:
                self.orphans[session.pid] = hello

        return over

    async def greeted(self, session: Session) -> None:
        """Wait until a session's shell has said hello; close a session that does not.

        Raises:
            MachineUnreachableError: the connection was cut.
            MachineError: the login ended, or took too long.
        """
        try:
            with session_errors(self.link.where, None, "spawn"):
                async with asyncio.timeout(HELLO_SECONDS):
                    await asyncio.shield(session.ready)
        except MachineUnreachableError as error:
            await session.close()
            if isinstance(error.__cause__, TimeoutError) and session.error is None:
                raise MachineError(
                    f"the login on {self.link.where} did not come to run {self.sh} within {HELLO_SECONDS:g} s: what "
                    "do its rc files do?",
                    provider=PROVIDER,
                    operation="spawn",
                ) from error
            if session.exit_status is not None:
                raise MachineError(
                    f"the login on {self.link.where} ended with {session.exit_status} before it ran {self.sh}: look "
                    f"at its rc files, its login shell, and ssh {self.link.where} {self.sh} -c true",
                    provider=PROVIDER,
                    operation="spawn",
                ) from error
            raise
        except BaseException:
            await asyncio.shield(session.close())
            raise

    def _refill(self) -> None:
        """Open what is missing in the background; what goes wrong there is found out by whoever needs a shell."""
        for _ in range(SPARE - len(self._ready) - len(self._opening)):
            task = asyncio.ensure_future(self._spare())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _spare(self) -> None:
        try:
            session = await self._open()
        except (GitMachineError, *BROKEN):
            return
        if self._closed:
            await session.close()
        else:
            self._ready.append(session)

    async def run(self, script: str | bytes, *, seconds: float, operation: str) -> Answer:
        """Run a script of ours and return what it said; its shell is there for the next one.

        Raises:
            MachineUnreachableError: the connection was cut, or the host did not answer in time.
        """
        call = _Call(new_token())
        session = await self._get()
        session.attach(call)
        answered = False
        try:
            session.write(
                call.order(script if isinstance(script, bytes) else script.encode("utf-8", "surrogateescape"))
            )
            with session_errors(self.link.where, None, operation):
                try:
                    async with asyncio.timeout(seconds):
                        answer = await call.answer
                    answered = True
                except TimeoutError as error:
                    raise self.link.cut(error) from error
        finally:
            if not answered or len(self._ready) >= 2 * SPARE or self._closed:
                await asyncio.shield(session.close())
            else:
                session.detach()
                self._ready.append(session)
        return answer

    async def close(self) -> None:
        """Close the shells that nobody took."""
        self._closed = True
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        ready, self._ready = self._ready, []
        await asyncio.gather(*(session.close() for session in ready))


class _Call:
    """Collects the answer of one script; the receiver of its shell."""

    def __init__(self, token: str) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._token = token
        self._output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self._words: dict[int, str] = {}
        self._scanners = {number: self._scanner(number) for number in (1, 2)}

    def order(self, script: bytes) -> bytes:
        """Return what to send; nothing of it is left in the shell afterwards."""
        token = self._token.encode()
        return (
            b"{ (\n%s\n) </dev/null; _gm_s=$?; printf '\\036%%s%%s\\n' %s \"$_gm_s\"; printf '\\036%%s\\n' %s >&2; }\n"
        ) % (script, token, token)

    def _scanner(self, number: int) -> MarkerScanner:
        scanner = MarkerScanner(self._output[number].extend, lambda word: self._ended(number, word))
        scanner.expect(self._token)
        return scanner

    def _ended(self, number: int, word: str) -> None:
        self._words[number] = word
        if len(self._words) == 2 and not self.answer.done():
            status = int(self._words[1]) if self._words[1].isdigit() else 255
            self.answer.set_result(Answer(status=status, stdout=bytes(self._output[1]), stderr=bytes(self._output[2])))

    def feed(self, stream: StreamNumber, data: bytes) -> None:
        """Take output."""
        if not self.answer.done():
            self._scanners[stream].feed(data)

    def ended(self, error: Exception | None = None) -> None:
        """Take note of the shell's end."""
        if not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("the shell ended before it answered"))
            self.answer.exception()
