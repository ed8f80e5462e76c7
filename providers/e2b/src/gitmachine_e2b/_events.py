"""What a process's stream says, message by message."""

from __future__ import annotations

import binascii
import json
import re
import signal
from typing import Any

import attrs

from gitmachine_e2b._records import RecordError

_SIGNALS = {
    "hangup": signal.SIGHUP,
    "interrupt": signal.SIGINT,
    "quit": signal.SIGQUIT,
    "illegal instruction": signal.SIGILL,
    "trace/breakpoint trap": signal.SIGTRAP,
    "aborted": signal.SIGABRT,
    "abort trap": signal.SIGABRT,
    "bus error": signal.SIGBUS,
    "floating point exception": signal.SIGFPE,
    "killed": signal.SIGKILL,
    "user defined signal 1": signal.SIGUSR1,
    "segmentation fault": signal.SIGSEGV,
    "user defined signal 2": signal.SIGUSR2,
    "broken pipe": signal.SIGPIPE,
    "alarm clock": signal.SIGALRM,
    "terminated": signal.SIGTERM,
}
"""Signals as Go's runtime, which envd is written in, names them."""
_NUMBERED = re.compile(r"signal (\d+)")

_SHORT = tuple(
    (kind, b'{"event":{"data":{"%b":"' % kind.encode(), len(kind) + 21) for kind in ("stdout", "stderr", "pty")
)
_SHORT_END = b'"}}}'


@attrs.frozen
class Started:
    """The process runs; the first thing that a stream says."""

    pid: int


@attrs.frozen
class Output:
    """A piece of output: of ``stdout``, ``stderr`` or ``pty``."""

    kind: str
    data: bytes


@attrs.frozen
class Ended:
    """The process has ended, and everything that was read of it was said before."""

    exit_code: int


@attrs.frozen
class Other:
    """A sign of life, or something that this client does not know."""


Event = Started | Output | Ended | Other
_OTHER = Other()


def decode_event(payload: bytes) -> Event:
    """Return what a message of a stream says.

    Raises:
        RecordError: it is none.
    """
    if payload.endswith(_SHORT_END):
        # what a flood of output consists of: no JSON has to be built of it
        for kind, prefix, start in _SHORT:
            if payload.startswith(prefix):
                try:
                    return Output(kind, binascii.a2b_base64(payload[start:-4], strict_mode=True))
                except binascii.Error:
                    break  # more in it than the piece of output
    return _decode(payload)


def _decode(payload: bytes) -> Event:
    try:
        event = json.loads(payload).get("event") or {}
        if "start" in event:
            return Started(int((event["start"] or {}).get("pid", 0)))
        if "data" in event:
            for kind, text in (event["data"] or {}).items():
                if kind in ("stdout", "stderr", "pty"):
                    return Output(kind, binascii.a2b_base64(text))
            return _OTHER
        if "end" in event:
            return Ended(exit_code(event["end"] or {}))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RecordError(f"a message of a process's stream is malformed: {error}") from error
    return _OTHER


def exit_code(end: dict[str, Any]) -> int:
    """Return the exit code that an end tells: 128 + N for death by signal N, which envd reports as -1 with a text."""
    code = int(end.get("exitCode", 0))
    if 0 <= code <= 255:
        return code
    text = str(end.get("status") or end.get("error") or "").removeprefix("signal: ").removesuffix(" (core dumped)")
    numbered = _NUMBERED.fullmatch(text)
    number = int(numbered[1]) if numbered else _SIGNALS.get(text.lower(), signal.SIGKILL)
    return 128 + int(number)
