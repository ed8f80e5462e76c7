"""Telling whoever watches a transfer that it goes on."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["Progress", "advance", "watched_progress"]


class Progress:
    """How often a transfer went on; a deadline looks whether that grows."""

    def __init__(self) -> None:
        self.steps = 0


watched_progress: ContextVar[Progress | None] = ContextVar("gitmachine_watched_progress", default=None)
"""The transfer that is being watched, if any."""


def advance() -> None:
    """Say that the transfer goes on; `pack` and `unpack` do, for each piece."""
    progress = watched_progress.get()
    if progress is not None:
        progress.steps += 1
