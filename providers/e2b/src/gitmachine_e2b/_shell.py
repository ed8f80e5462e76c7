"""Small scripts that the provider itself runs in a sandbox, and what they answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine_e2b._envd import READ_OUT_SECONDS
from gitmachine_e2b._errors import PROBLEMS, Broken, Refusal
from gitmachine_e2b._events import Ended, Output, Started, decode_event
from gitmachine_e2b._scripts import SHELL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine_e2b._envd import Envd

ROOT = "root"
SCRIPT_SECONDS = 60.0
MAX_ANSWER_BYTES = 256 << 20


@attrs.frozen
class Answer:
    """How a script ended, and what it printed."""

    code: int
    output: bytes
    errors: str


async def run_script(
    envd: Envd, script: str, *arguments: str, user: str | None = None, seconds: float = SCRIPT_SECONDS
) -> Answer:
    """Run a script to its end, without a wrapper: it must leave nothing behind.

    Raises:
        Refusal: it was not started.
        Broken: the connection failed, or it did not end in time; it may have run.
    """
    message = {
        "process": {"cmd": SHELL, "args": ["-c", script, "gitmachine", *arguments], "envs": {"LC_ALL": "C"}},
        "stdin": False,
    }
    running = _Running()
    try:
        async with asyncio.timeout(seconds):
            await running.follow(envd, "process.Process/Start", message, user)
            if running.ended is None and running.pid:
                # the stream ended well without a word of the script's end, which is kept for half a minute
                await running.follow(envd, "process.Process/Connect", {"process": {"pid": running.pid}}, None)
    except TimeoutError as error:
        raise Broken(f"a script did not end within {seconds:g} s", sent=True) from error
    if running.ended is None:
        raise Broken("a script's stream ended without the script's end", sent=True)
    errors = b"".join(running.pieces["stderr"]).decode("utf-8", "replace")
    return Answer(running.ended.exit_code, b"".join(running.pieces["stdout"]), errors)


class _Running:
    """What is known of a script on its way."""

    def __init__(self) -> None:
        self.pid = 0
        self.ended: Ended | None = None
        self.pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._size = 0

    async def follow(self, envd: Envd, method: str, message: Mapping[str, Any], user: str | None) -> None:
        """Read a stream up to the script's end, and the little that follows: then its connection can be used again."""
        async with envd.stream(method, message, user=user) as messages:
            async for payload in messages:
                self._take(payload)
                if self.ended is not None:
                    break
            with contextlib.suppress(*PROBLEMS, TimeoutError):
                async with asyncio.timeout(READ_OUT_SECONDS):
                    async for _ in messages:
                        pass

    def _take(self, payload: bytes) -> None:
        event = decode_event(payload)
        if isinstance(event, Started):
            self.pid = event.pid
        elif isinstance(event, Ended):
            self.ended = event
        elif isinstance(event, Output) and event.kind in self.pieces:
            self._size += len(event.data)
            if self._size > MAX_ANSWER_BYTES:
                raise Broken(f"a script printed more than {MAX_ANSWER_BYTES} bytes", sent=True)
            self.pieces[event.kind].append(event.data)


async def run_as_root(envd: Envd, script: str, *arguments: str, seconds: float = SCRIPT_SECONDS) -> Answer:
    """Run a script that has to see the processes of every user; as the usual one where there is no root."""
    try:
        return await run_script(envd, script, *arguments, user=ROOT, seconds=seconds)
    except Refusal as refusal:
        if refusal.code not in ("unauthenticated", "permission_denied"):
            raise
        return await run_script(envd, script, *arguments, seconds=seconds)
