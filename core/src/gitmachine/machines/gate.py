"""Refusing new commands while a machine is being stopped, except those of whoever stops it."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gate"]

_passes: ContextVar[frozenset[Gate]] = ContextVar("gitmachine_gate_passes", default=frozenset())


class Gate:
    """Open, or closed with a reason to everyone who has no permit.

    A permit belongs to a context: tasks, callbacks and threads that get a copy of it are let through as well, so what
    runs on behalf of a stop (its git commands, its `on_end`) works while everybody else is refused.
    """

    def __init__(self) -> None:
        self._reasons: list[str] = []

    @property
    def reason(self) -> str | None:
        """Why the gate is closed, such as ``"the machine is stopping"``; None while it is open."""
        return self._reasons[-1] if self._reasons else None

    @contextlib.contextmanager
    def closed(self, reason: str) -> Iterator[None]:
        """Keep the gate closed; it opens when everyone who closed it has left."""
        self._reasons.append(reason)
        try:
            yield
        finally:
            self._reasons.remove(reason)

    @contextlib.contextmanager
    def permit(self) -> Iterator[None]:
        """Let the caller, and what it starts from here, through."""
        token = _passes.set(_passes.get() | {self})
        try:
            yield
        finally:
            _passes.reset(token)

    @property
    def permitted(self) -> bool:
        """Whether the caller holds a permit."""
        return self in _passes.get()

    def refusal(self) -> str | None:
        """Return why the caller may not pass, or None when it may."""
        return None if self.permitted else self.reason
