"""Small scripts that the provider itself runs in a sandbox, and what they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from gitmachine_e2b._errors import Broken, Refusal
from gitmachine_e2b._events import Ended, Output, decode_event
from gitmachine_e2b._scripts import SHELL

if TYPE_CHECKING:
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
    pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    size = 0
    try:
        async with (
            asyncio.timeout(seconds),
            envd.stream("process.Process/Start", message, user=user) as messages,
        ):
            async for payload in messages:
                event = decode_event(payload)
                if isinstance(event, Output):
                    size += len(event.data)
                    if size > MAX_ANSWER_BYTES:
                        raise Broken(f"a script printed more than {MAX_ANSWER_BYTES} bytes", sent=True)
                    pieces.setdefault(event.kind, []).append(event.data)
                elif isinstance(event, Ended):
                    errors = b"".join(pieces["stderr"]).decode("utf-8", "replace")
                    return Answer(event.exit_code, b"".join(pieces["stdout"]), errors)
    except TimeoutError as error:
        raise Broken(f"a script did not end within {seconds:g} s", sent=True) from error
    raise Broken("a script's stream ended without its end", sent=True)


async def run_as_root(envd: Envd, script: str, *arguments: str, seconds: float = SCRIPT_SECONDS) -> Answer:
    """Run a script that has to see the processes of every user; as the usual one where there is no root."""
    try:
        return await run_script(envd, script, *arguments, user=ROOT, seconds=seconds)
    except Refusal as refusal:
        if refusal.code not in ("unauthenticated", "permission_denied"):
            raise
        return await run_script(envd, script, *arguments, seconds=seconds)
