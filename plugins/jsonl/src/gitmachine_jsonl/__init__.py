"""GitMachine's event log: one line of JSON for each event, and a command to read them."""

from gitmachine_jsonl.log import EventLog

__all__ = ["EventLog"]
