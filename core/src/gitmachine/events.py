"""What happened, as frozen records: one class for each notify hook.

`MachineStarted` goes to the hook ``gitmachine_machine_started`` and to `on_event` callbacks under the name
``"started"`` with `data()`. An event is made only after its effect was verified.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import attrs

from gitmachine.outcomes import Withheld  # noqa: TC001  # attrs resolves annotations at run time

__all__ = [
    "EVENTS",
    "CommandFinished",
    "CommandStarted",
    "Event",
    "GitCheckpointed",
    "GitCloned",
    "GitCommitted",
    "GitPulled",
    "GitPushed",
    "GitRescued",
    "GitWithheld",
    "MachineLost",
    "MachinePaused",
    "MachineReconnected",
    "MachineResumed",
    "MachineStarted",
    "MachineStopped",
    "MachineStopping",
]


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Event:
    """What every event tells.

    Attributes:
        machine_id: the provider's id of the machine.
        provider: the provider's name.
        repository: the repository's URL, without any credential.
        session: the session branch.
        name: the machine's name given by the user, or None.
        time: when it happened (UTC).
    """

    event: ClassVar[str]
    """The name that `on_event` callbacks see."""

    machine_id: str | None
    provider: str
    repository: str
    session: str
    name: str | None = None
    time: datetime = attrs.field(factory=_now)

    @classmethod
    def hook(cls) -> str:
        """Return the name of the notify hook, such as ``gitmachine_machine_started``."""
        return "gitmachine" + re.sub(r"(?=[A-Z])", "_", cls.__name__).lower()

    def data(self) -> dict[str, Any]:
        """Return what is particular to this event, as `on_event` callbacks get it."""
        common = {field.name for field in attrs.fields(Event)}
        return {field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.name not in common}


@attrs.frozen(kw_only=True)
class MachineStarted(Event):
    """The machine runs and the session branch is checked out in `repo_path`."""

    event: ClassVar[str] = "started"
    repo_path: str

    def data(self) -> dict[str, Any]:
        """Return the session and the repository's path in the machine."""
        return {"session": self.session, "repo_path": self.repo_path}


@attrs.frozen(kw_only=True)
class MachinePaused(Event):
    """The machine is frozen; its work was committed and copied to the host."""

    event: ClassVar[str] = "paused"


@attrs.frozen(kw_only=True)
class MachineResumed(Event):
    """The machine runs again.

    `verified` tells whether HEAD and the whole working tree were as recorded when it was paused; None when nothing was
    recorded.
    """

    event: ClassVar[str] = "resumed"
    verified: bool | None = None


@attrs.frozen(kw_only=True)
class MachineStopping(Event):
    """The work is published; the machine is about to end."""

    event: ClassVar[str] = "stopping"


@attrs.frozen(kw_only=True)
class MachineStopped(Event):
    """The machine is gone; `receipt` is its Receipt as plain data."""

    event: ClassVar[str] = "stopped"
    receipt: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class MachineReconnected(Event):
    """This process took over a machine that was running already."""

    event: ClassVar[str] = "reconnected"

    def data(self) -> dict[str, Any]:
        """Return the machine's id."""
        return {"id": self.machine_id}


@attrs.frozen(kw_only=True)
class MachineLost(Event):
    """The machine ended or stopped answering without being asked to."""

    event: ClassVar[str] = "lost"
    reason: str


@attrs.frozen(kw_only=True)
class GitCloned(Event):
    """The repository is in the machine, at `sha` (None in an empty repository)."""

    event: ClassVar[str] = "cloned"
    branch: str
    sha: str | None
    created: bool


@attrs.frozen(kw_only=True)
class GitCommitted(Event):
    """A commit was made on the session branch."""

    event: ClassVar[str] = "committed"
    sha: str
    message: str


@attrs.frozen(kw_only=True)
class GitPushed(Event):
    """The remote confirmed that `branch` is at `sha`."""

    event: ClassVar[str] = "pushed"
    branch: str
    sha: str
    commits: int


@attrs.frozen(kw_only=True)
class GitPulled(Event):
    """The session branch moved from `old_sha` to `sha` by a pull (equal when there was nothing new)."""

    event: ClassVar[str] = "pulled"
    old_sha: str | None
    sha: str | None


@attrs.frozen(kw_only=True)
class GitCheckpointed(Event):
    """A checkpoint was taken and copied to this host; `skipped` names untracked files too large for it."""

    event: ClassVar[str] = "checkpointed"
    number: int
    sha: str
    skipped: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class GitRescued(Event):
    """Work that could not be published is safe on this host."""

    event: ClassVar[str] = "rescued"
    repository_path: str
    bundle: str | None
    reason: str


@attrs.frozen(kw_only=True)
class GitWithheld(Event):
    """Changes were left out of an automatic commit; the files are safe on this host."""

    event: ClassVar[str] = "withheld"
    files: tuple[Withheld, ...] = ()

    def data(self) -> dict[str, Any]:
        """Return each file as plain data."""
        return {"files": [attrs.asdict(file) for file in self.files]}


@attrs.frozen(kw_only=True)
class CommandStarted(Event):
    """A command is about to run; `command` is redacted."""

    event: ClassVar[str] = "command_started"
    command: str


@attrs.frozen(kw_only=True)
class CommandFinished(Event):
    """A command ended; its output is never part of the event. `duration` is in seconds."""

    event: ClassVar[str] = "command_finished"
    command: str
    exit_code: int | None
    duration: float
    timed_out: bool = False


EVENTS: tuple[type[Event], ...] = (
    MachineStarted,
    MachinePaused,
    MachineResumed,
    MachineStopping,
    MachineStopped,
    MachineReconnected,
    MachineLost,
    GitCloned,
    GitCommitted,
    GitPushed,
    GitPulled,
    GitCheckpointed,
    GitRescued,
    GitWithheld,
    CommandStarted,
    CommandFinished,
)
"""Every event class; each has a notify hook of its name."""
