"""The two directions in which objects travel between host and machine, apart from how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gitmachine.errors import GitError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from gitmachine.git.carrying import Delivery
    from gitmachine.machine import Machine

__all__ = ["FSCK_CONFIG", "FSCK_STRICT", "FsckRefused", "IncompleteError", "Inward", "Outward", "check_fsck"]

# What a hostile machine could hurt somebody with is an error (git's own default for most; the rest are warnings that
# a strict check turns into errors). What old, famous repositories contain is not: an agent may well have cloned one.
_HISTORICAL = (
    "badDate", "badDateOverflow", "badEmail", "badFilemode", "badName", "badTimezone", "missingEmail",
    "missingNameBeforeEmail", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingTaggerEntry",
    "multipleAuthors", "nulInCommit", "zeroPaddedDate", "zeroPaddedFilemode", "badTagName", "nullSha1",
)  # fmt: skip
FSCK_CONFIG = ("fetch.fsckObjects=true", *(f"fetch.fsck.{name}=warn" for name in _HISTORICAL))
"""Options for a fetch of what a machine made."""

FSCK_STRICT = f"--strict={','.join(f'{name}=warn' for name in _HISTORICAL)}"
"""The same for the commands that unpack."""


class FsckRefused(GitError):  # noqa: N818  # internal: the caller quarantines and reports
    """Git's check found something dangerous in what a machine sent."""


class IncompleteError(GitError):
    """What arrived lacks what it is built on."""


class Inward(ABC):
    """Brings what the mirror has into a machine."""

    @abstractmethod
    async def deliver(self, machine: Machine, path: str, view: Path, delivery: Delivery) -> None:
        """Make the machine's repository have all of the delivery, verified there.

        Raises:
            CloneError: it could not be brought in.
        """


class Outward(ABC):
    """Brings what a machine has into a repository on the host."""

    async def bring_little(self, machine: Machine, path: str, target: Path, wanted: Collection[str]) -> bool:
        """Store commits of the repository at `path`, checked, in a cheaper way than `bring`, when there is one.

        False: they have to be brought. Also otherwise it is for the caller to look whether all of them are there.
        """
        del machine, path, target, wanted
        return False

    @abstractmethod
    async def bring(
        self, machine: Machine, path: str, target: Path, wants: Mapping[str, str], *, check: bool, shallow: bool = False
    ) -> None:
        """Fetch commits (ref of the target → sha) from the repository at `path`.

        `check` applies `FSCK_CONFIG`; `shallow` lets the target become as shallow as the source. Whether they came
        is for the caller to look at.

        Raises:
            FsckRefused: the check refused; nothing was stored.
            IncompleteError: it cannot be stored, for it lacks what it is built on.
            GitError: the transfer failed.
        """


def check_fsck(stderr: str) -> None:
    """Raise `FsckRefused` when git's messages say that its check refused."""
    if "fsck error" in stderr or "failed fsck" in stderr or "fsck_objects" in stderr:
        raise FsckRefused(f"git's check refused what the machine sent: {stderr[-500:]}", stderr=stderr)
