"""Calls of the callbacks that belong to one session."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.session import AsyncGitMachine
    from gitmachine.steps.setup import LifecycleCallback

__all__ = ["call"]


async def call(callback: LifecycleCallback | None, gm: AsyncGitMachine) -> None:
    """Call a life-cycle callback, if there is one, and wait for it; its error is raised."""
    if callback is None:
        return
    answer = callback(gm)
    if inspect.isawaitable(answer):
        await answer
