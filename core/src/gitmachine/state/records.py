"""The records of the journal."""

from __future__ import annotations

import secrets
from collections.abc import Mapping  # noqa: TC003  # attrs resolves annotations at run time
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

__all__ = ["ENDED_STATES", "LIVE_STATES", "CommandRecord", "Intent", "MachineRecord", "new_key"]

LIVE_STATES = ("starting", "running", "paused", "stopping")
"""A machine in one of these may hold work, so its session's branch and its name are taken."""

ENDED_STATES = ("stopped", "lost", "failed")
"""A machine in one of these is gone; the row stays as history."""


def new_key() -> str:
    """Return a fresh key for a machine: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def _now() -> datetime:
    return datetime.now(UTC)


def _known_state(_record: object, _field: object, value: str) -> None:
    if value not in LIVE_STATES + ENDED_STATES:
        raise ValueError(f"unknown machine state {value!r}: expected one of {', '.join(LIVE_STATES + ENDED_STATES)}")


@attrs.frozen(kw_only=True)
class MachineRecord:
    """What the journal knows of one machine. Nothing in it is secret.

    Attributes:
        key: our own id of it, from `new_key`; the provider's id may come later or never.
        provider: the provider's name.
        repository: the repository's URL in canonical form, without any credential.
        session: the session branch; (repository, session) belongs to one live machine.
        state: one of `LIVE_STATES` and `ENDED_STATES`.
        name: the user's name for it; live machines have different names.
        machine_id: the provider's id.
        repo_path: where the repository is in the machine.
        owner_pid: the process that drives the machine.
        owner_start: when that process started, as `owner.process_start` says it.
        created: UTC.
        updated: UTC.
        options: the provider's options as the user wrote them (``${VAR}`` unresolved), JSON-ready.
        head: HEAD at the last pause or push.
        tree: the tree of everything at the last pause.
    """

    key: str
    provider: str
    repository: str
    session: str
    state: str = attrs.field(default="starting", validator=_known_state)
    name: str | None = None
    machine_id: str | None = None
    repo_path: str | None = None
    owner_pid: int | None = None
    owner_start: str | None = None
    created: datetime = attrs.field(factory=_now)
    updated: datetime = attrs.field(factory=_now)
    options: Mapping[str, Any] = attrs.field(factory=dict)
    head: str | None = None
    tree: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the machine is gone."""
        return self.state in ENDED_STATES

    @property
    def label(self) -> str:
        """What the user can call it by: its name, else its key."""
        return self.name or self.key


@attrs.frozen(kw_only=True)
class CommandRecord:
    """One command of a machine's history, without its output.

    Attributes:
        command: as given, redacted by the caller.
        started: UTC.
        duration: seconds; of one that runs, so far; None when nobody saw its end.
        exit_code: None when the command never ended by itself.
        timed_out: whether its timeout ended it.
        head: HEAD when it started, where known.
        state: ``running`` while the process that waits for it lives and has not said how it ended; ``interrupted``
            when that process is gone without saying: how it ended is not known.
    """

    command: str
    started: datetime
    duration: float | None
    exit_code: int | None
    timed_out: bool = False
    head: str | None = None
    state: Literal["ended", "running", "interrupted"] = "ended"


@attrs.frozen(kw_only=True)
class Intent:
    """An operation that was begun, written before its effect; open until `outcome` is set.

    Attributes:
        id: counts up in the journal.
        key: the machine.
        operation: such as ``"push"``.
        detail: what a later process needs to finish or undo it, JSON-ready.
        started: UTC.
        outcome: how it ended, or None while it is open.
        finished: UTC, or None.
    """

    id: int
    key: str
    operation: str
    detail: Mapping[str, Any]
    started: datetime
    outcome: Mapping[str, Any] | None = None
    finished: datetime | None = None
