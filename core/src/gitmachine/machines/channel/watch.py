"""Shells that somebody stopped (SIGSTOP): they are continued, since whoever waits for one would wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from gitmachine.errors import GitMachineError
from gitmachine.execution import ExecRequest, run_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gitmachine.machines.channel.duplex import Plain
    from gitmachine.machines.channel.job import Job

__all__ = ["Watch"]

FIRST_SECONDS = 3.0
"""How long a command runs before its shell is looked at."""
LONGEST_SECONDS = 30.0
"""How often shells are looked at in the end, while commands run; each time it is three times as long until then."""
LOOK_SECONDS = 10.0
"""How long a look may take."""


class Watch:
    """Looks after the shells of one machine while commands run in them; costs one timer, however many there are.

    A shell that does not go on cannot be told from a command that takes its time, so it is looked at from outside: by
    a process of its own, since the other shells may be stopped as well.
    """

    def __init__(
        self,
        plain: Plain,
        *,
        wake: Callable[[], str],
        jobs: Callable[[], Sequence[Job]],
        paused: Callable[[], bool],
    ) -> None:
        """Watch nothing yet.

        Args:
            plain: how to run the script that looks.
            wake: makes that script.
            jobs: what runs now.
            paused: whether the machine is known to stand still.
        """
        self._plain = plain
        self._wake = wake
        self._jobs = jobs
        self._paused = paused
        self._timer: asyncio.TimerHandle | None = None
        self._wait = FIRST_SECONDS
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """Take notice of a command that begins."""
        if self._timer is None and not self._closed:
            self._wait = FIRST_SECONDS
            self._timer = asyncio.get_running_loop().call_later(FIRST_SECONDS, self._due)

    def close(self) -> None:
        """Look no more; what looks now is not waited for."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        began = min((job.began for job in self._jobs()), default=None)
        if began is None or self._closed:
            return
        wait = began + FIRST_SECONDS - loop.time()
        if wait <= 0:
            wait = self._wait
            self._wait = min(3 * self._wait, LONGEST_SECONDS)
            if not self._paused() and self._looking is None:
                self._looking = asyncio.ensure_future(self._look())
                self._looking.add_done_callback(self._looked)
        self._timer = loop.call_later(wait, self._due)

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # the next look may go better

    async def _look(self) -> None:
        request = ExecRequest(argv=("sh", "-c", self._wake()), timeout=LOOK_SECONDS)
        with contextlib.suppress(GitMachineError):  # whoever waits for the command has an error of his own
            await run_process(await self._plain(request), request)
