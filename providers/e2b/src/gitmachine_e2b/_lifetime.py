"""Keeping a sandbox alive while its session works, and saying so before its life ends all the same."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gitmachine_e2b._api import LONGEST_REFRESH_SECONDS
from gitmachine_e2b._errors import Broken, Refusal
from gitmachine_e2b._records import RecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine_e2b._api import ControlPlane

_log = logging.getLogger("gitmachine.e2b")

SHARE = 3
"""A sandbox is extended when a third of its time has passed, so that two refusals in a row do no harm."""
NOTICE_SECONDS = 300.0
TOLERANCE_SECONDS = 5.0
"""What the clocks of this host and the service, and the time a request takes, may differ by."""


class Lifetime:
    """Extends one sandbox's life at intervals, from `start` to `stop`.

    The service caps the whole life of a sandbox. When an extension does not help any more, and the end is no further
    than `NOTICE_SECONDS` or the usual timeout, it is announced: once in the log, and by a call.
    """

    def __init__(
        self,
        api: ControlPlane,
        sandbox_id: str,
        timeout: int,
        on_expiry: Callable[[datetime], None] | None = None,
    ) -> None:
        self._api = api
        self._sandbox_id = sandbox_id
        self._timeout = timeout
        self._on_expiry = on_expiry
        self._task: asyncio.Task[None] | None = None
        self._announced = False
        self.ends_at: datetime | None = None
        """When the service said last that the sandbox ends."""

    @property
    def interval(self) -> float:
        """Seconds between extensions."""
        return min(self._timeout, LONGEST_REFRESH_SECONDS) / SHARE

    def start(self) -> None:
        """Begin to extend it."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._extend())

    async def change(self, timeout: int) -> None:
        """Extend it by another time from now on."""
        self._timeout = timeout
        if self._task is not None:
            await self.stop()
            self.start()

    async def stop(self) -> None:
        """Let it be."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            if task.get_loop() is asyncio.get_running_loop():
                await asyncio.gather(task, return_exceptions=True)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            try:
                await self.extend()
            except Refusal as refusal:
                _log.debug("the sandbox %s could not be extended: %s", self._sandbox_id, refusal.message)
            except (Broken, RecordError) as problem:
                _log.debug("the sandbox %s could not be extended: %s", self._sandbox_id, problem)

    async def extend(self) -> None:
        """Extend it now, and look when it ends."""
        await self._api.refresh(self._sandbox_id, self._timeout)
        self.ends_at = (await self._api.get(self._sandbox_id)).ends_at
        if self.ends_at is not None:
            left = (self.ends_at - datetime.now(UTC)).total_seconds()
            usual = min(self._timeout, LONGEST_REFRESH_SECONDS)
            if left < usual - TOLERANCE_SECONDS and left <= max(usual, NOTICE_SECONDS):
                self._announce(self.ends_at, left)

    def _announce(self, ends_at: datetime, left: float) -> None:
        if self._announced:
            return
        self._announced = True
        _log.warning(
            "the E2B sandbox %s ends in %d s, at %s: its longest life is reached, and it is not extended any further",
            self._sandbox_id,
            max(0, left),
            ends_at.isoformat(timespec="seconds"),
        )
        if self._on_expiry is not None:
            self._on_expiry(ends_at)
