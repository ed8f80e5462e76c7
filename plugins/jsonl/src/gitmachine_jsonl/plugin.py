"""The hooks of the event log: one for each event, and the command ``gitmachine events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitmachine import hookimpl
from gitmachine.events import EVENTS

if TYPE_CHECKING:
    from gitmachine.events import Event
    from gitmachine.hookspecs import CommandGroup

__all__ = ["gitmachine_register_commands"]


@hookimpl
def gitmachine_register_commands(cli: CommandGroup) -> None:
    """Add ``gitmachine events``."""
    from gitmachine_jsonl.command import events

    cli.add_command(events)


def _observer(name: str) -> Any:
    def observe(event: Event) -> None:
        from gitmachine_jsonl.log import EventLog

        log = EventLog.default()
        if log is not None:
            log.append(event)

    observe.__name__ = name
    observe.__doc__ = "Write the event down."
    return hookimpl(observe)


# One implementation for each event there is, so that the log is complete by itself.
globals().update({event.hook(): _observer(event.hook()) for event in EVENTS})
