"""What operations report: receipts, kept work, rescues, the command log. Plain frozen records."""

from __future__ import annotations

from datetime import datetime  # attrs and cattrs resolve annotations at run time
from enum import StrEnum
from typing import Any

import attrs

from gitmachine.execution import ExecResult  # noqa: TC001  # attrs and cattrs resolve annotations at run time

__all__ = [
    "Checkpoint",
    "Kept",
    "KeptKind",
    "LogEntry",
    "PushResult",
    "PushStatus",
    "Receipt",
    "Rescue",
    "RunInfo",
    "RunState",
    "Withheld",
    "Withhold",
]


class KeptKind(StrEnum):
    """What kind of work a `Kept` entry is."""

    BRANCH = "branch"
    TAG = "tag"
    STASH = "stash"
    WORKTREE = "worktree"
    NESTED = "nested"
    SUBMODULE = "submodule"
    CHANGES = "changes"
    DETACHED = "detached"
    IGNORED = "ignored"
    """Ignored files that `git.keep_ignored` names."""
    WITHHELD = "withheld"
    """What a guard left out of automatic commits."""
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Kept:
    """Work that is safe on this host but not on the remote's session branch.

    Attributes:
        kind: what it is.
        name: the ref, or the path for nested repositories and submodules.
        sha: the commit, in the host's session repository.
        ref: the ref of the session repository that holds it.
        commits: how many commits the remote lacks.
        path: the repository's or worktree's path, relative to the main repository ("" for itself).
    """

    kind: KeptKind
    name: str
    sha: str
    ref: str = ""
    commits: int = 0
    path: str = ""


@attrs.frozen
class Withhold:
    """A plugin's answer about a change: leave `path` out of the commit, for `reason`."""

    path: str
    reason: str


@attrs.frozen(kw_only=True)
class Withheld:
    """A change left out of a commit by a guard; the file is kept on this host (``gitmachine withheld``).

    Attributes:
        path: the file, relative to the repository.
        reason: why, in a few words; never the secret itself.
        plugin: the plugin that asked for it.
        blob: its content in the session repository, or None when it is no file there (a deletion, a link).
        size_bytes: of the content.
    """

    path: str
    reason: str
    plugin: str = ""
    blob: str | None = None
    size_bytes: int = 0


@attrs.frozen(kw_only=True)
class Rescue:
    """Where work that could not be published is safe.

    Attributes:
        repository: the session repository on this host.
        bundle: a git bundle proven to clone, or None when there was nothing to bundle.
        sha: the session branch's commit in it.
        branch: the session branch.
        reason: why it could not be published.
        machine_kept: True when the machine still runs or is paused.
        time: when it was made (UTC).
    """

    repository: str
    bundle: str | None
    sha: str | None
    branch: str
    reason: str
    machine_kept: bool
    time: datetime


class PushStatus(StrEnum):
    """The outcome of a verified push."""

    PUSHED = "pushed"
    UP_TO_DATE = "up_to_date"


@attrs.frozen(kw_only=True)
class PushResult:
    """What a push did, verified by asking the remote afterwards.

    Attributes:
        status: ``pushed`` or ``up_to_date``.
        branch: the remote branch that now has the work (a sibling when the policy made one).
        local_sha: our commit.
        remote_sha: what the remote answered; equal to `local_sha`.
        commits: how many commits were new to the remote.
    """

    status: PushStatus
    branch: str
    local_sha: str
    remote_sha: str
    commits: int = 0


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A snapshot of the whole working tree on a private ref.

    Attributes:
        number: counts from 1 in each session.
        sha: the commit that holds the tree; its first parent is HEAD of that moment.
        head: HEAD at that moment, or None in an empty repository.
        time: UTC.
        message: what it was for.
    """

    number: int
    sha: str
    head: str | None
    time: datetime
    message: str = ""


@attrs.frozen(kw_only=True)
class LogEntry:
    """One command of a session's history.

    Attributes:
        command: as given, redacted.
        result: its complete result.
        timestamp: when it started (UTC).
    """

    command: str
    result: ExecResult
    timestamp: datetime


class RunState(StrEnum):
    """Where a detached run is."""

    STARTING = "starting"
    """Whoever starts it is still at it."""
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    """Ended by a signal after `kill` or `stop` asked for it."""
    LOST = "lost"
    """Nobody saw how it ended: its start was broken off, or its supervisor in the machine was killed."""


@attrs.frozen(kw_only=True)
class RunInfo:
    """A detached run as its machine tells it.

    Attributes:
        id: eight hexadecimal digits.
        name: what it was called, or None.
        command: as given, redacted.
        started: UTC, by the clock of whoever started it.
        state: where it is.
        exit_code: 0 to 255, 128 + N when signal N ended it; None until it ended, and when that is not known.
        stdout_bytes: how much output there is by now.
        stderr_bytes: the same of standard error.
        finished: UTC, by the machine's clock in whole seconds; None until it ended.
        truncated: whether output was lost because the machine's disk was full.
    """

    id: str
    name: str | None
    command: str
    started: datetime
    state: RunState
    exit_code: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    finished: datetime | None = None
    truncated: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in {RunState.STARTING, RunState.RUNNING}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return attrs.asdict(self, value_serializer=_plain)


@attrs.frozen(kw_only=True)
class Receipt:
    """What `stop` leaves behind; returned only after the remote confirmed.

    Attributes:
        branch: the session branch.
        local_sha: HEAD in the machine at the end (None in an empty repository).
        remote_sha: what the remote answered for the branch (None when it has no such branch).
        pushed: True when the remote has everything of the session branch.
        published: refs of the remote that hold the session's work.
        kept: work that is only on this host.
        ignored: how many ignored files were left in the machine (ignored directories count once).
        withheld: changes a guard left out of the last automatic commit.
        rescue: where unpublished work is, or None.
        machine_id: the machine that is gone now.
    """

    branch: str
    local_sha: str | None
    remote_sha: str | None
    pushed: bool
    published: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    ignored: int = 0
    withheld: tuple[Withheld, ...] = ()
    rescue: Rescue | None = None
    machine_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON-ready data."""
        return attrs.asdict(self, value_serializer=_plain)


def _plain(_owner: object, _field: object, value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
