"""Recovery by the journal's names: what killed processes left half done is finished or undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.steps.recovery import Recovery
from gitmachine.steps.recovery import recover as recover_remains
from gitmachine.steps.remains import Remains

if TYPE_CHECKING:
    from gitmachine.plugins.host import PluginHost
    from gitmachine.steps.setup import TokenSource

__all__ = ["recover", "recover_all"]

PATIENCE_SECONDS = 0.2
"""How long `recover_all` waits for a machine that another process works on, which then needs no recovery."""


async def recover(selector: str, *, token: TokenSource = None, plugins: PluginHost | None = None) -> Recovery:
    """Finish or undo what a killed process left half done on a machine; never destroys work.

    Args:
        selector: its name, its id, its key, or the unambiguous beginning of one of these two.
        token: the credential for the repository; None asks the plugins and the host's git helpers.
        plugins: the plugins; None loads the installed ones.

    Raises:
        StateError: there is no such machine, or the journal cannot be used.
    """
    from gitmachine.catalog import default_host

    places = Places.default().ensure()
    async with await Journal.aopen(places) as journal:
        record = await journal.machine(selector)
        host = plugins or default_host()
        return await recover_remains(Remains(record=record, places=places, journal=journal, host=host, token=token))


async def recover_all(*, token: TokenSource = None, plugins: PluginHost | None = None) -> tuple[Recovery, ...]:
    """Recover every machine of the journal; returns those with something to say. See `recover`.

    Raises:
        StateError: the journal cannot be used.
    """
    from gitmachine.catalog import default_host

    places = Places.default().ensure()
    found = []
    async with await Journal.aopen(places) as journal:
        for record in await journal.machines():
            remains = Remains(
                record=record, places=places, journal=journal, host=plugins or default_host(), token=token
            )
            recovery = await recover_remains(remains, wait_seconds=PATIENCE_SECONDS)
            if recovery:
                found.append(recovery)
    return tuple(found)
