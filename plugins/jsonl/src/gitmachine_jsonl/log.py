"""The file: lines of JSON, appended by any number of processes, with a bound."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitmachine.state.places import Places, make_private

if TYPE_CHECKING:
    from gitmachine.events import Event

__all__ = ["EventLog", "line_of"]

VARIABLE = "GITMACHINE_EVENTS"
"""The file to write to; ``-`` writes to none."""

MAX_BYTES = 64 * 1024 * 1024
"""A larger file is moved to ``<name>.1``, which is overwritten."""


def line_of(event: Event) -> dict[str, Any]:
    """Return an event as plain data; its texts are redacted by whoever made it."""
    return {
        "time": event.time.isoformat(),
        "event": event.event,
        "machine": event.machine_id,
        "provider": event.provider,
        "repository": event.repository,
        "session": event.session,
        "name": event.name,
        "data": _plain(event.data()),
    }


class EventLog:
    """Appends events to a file and reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def default(cls, environ: Mapping[str, str] = os.environ) -> EventLog | None:
        """Return the log that the environment names, else the one beside GitMachine's journal; None when it is off."""
        given = environ.get(VARIABLE, "").strip()
        if given == "-":
            return None
        return cls(Path(given).expanduser() if given else Places.default(environ).state / "events.jsonl")

    def append(self, event: Event) -> None:
        """Add an event, in one write; the file is its owner's alone."""
        line = json.dumps(line_of(event), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        if not self.path.parent.exists():
            make_private(self.path.parent)
        with self._locked():
            self._turn_over(len(line))
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what was logged, the oldest first; a line cut off by a full disk is left out."""
        for path in (self._older, self.path):
            with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    with contextlib.suppress(ValueError):
                        record = json.loads(line)
                        if isinstance(record, dict):
                            yield record

    @property
    def _older(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _turn_over(self, size: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size + size > MAX_BYTES:
                self.path.replace(self._older)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for the time of one write
            yield
        finally:
            os.close(descriptor)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
