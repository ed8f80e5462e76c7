"""The blocking view of a session, for the ``def`` implementations of hooks."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import weakref

    from gitmachine.session import AsyncGitMachine

__all__ = ["Views"]


class Views:
    """Finds the `GitMachine` over a session: the one that its user holds, or else one that is made for its loop.

    Attributes:
        own: the `GitMachine` that this session belongs to, or None when it is used by itself.
    """

    def __init__(self, gm: AsyncGitMachine) -> None:
        self.own: weakref.ref[object] | None = None
        self._gm = gm
        self._made: tuple[asyncio.AbstractEventLoop, object] | None = None

    def blocking(self) -> object:
        """Return the view; called on the session's loop."""
        own = self.own() if self.own is not None else None
        if own is not None:
            return own
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            # The blocking classes are a layer above this one: found by name, by the one call that needs them.
            self._made = (loop, import_module("gitmachine.sync").view_of(self._gm, loop))
        return self._made[1]
