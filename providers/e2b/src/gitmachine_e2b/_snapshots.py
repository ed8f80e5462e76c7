"""The team's snapshots, whatever became of the sandboxes that they were made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine import AuthenticationError, SnapshotInfo
from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b._errors import PROVIDER, machine_errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from gitmachine_e2b._records import Snapshot
    from gitmachine_e2b.config import E2BConfig

__all__ = ["FORK_NAME", "all_snapshots", "control_plane", "drop_snapshot", "is_for_a_fork", "remove"]

FORK_NAME = "gitmachine-fork-"
"""How a snapshot is called that is made for a fork, and removed with it."""

AT_ONCE = 8
"""How many sandboxes are asked about at the same time."""


def control_plane(config: E2BConfig) -> ControlPlane:
    """Return a way to the service.

    Raises:
        AuthenticationError: there is no key.
    """
    if not config.api_key:
        raise AuthenticationError(
            "E2B needs an API key: set E2B_API_KEY, or api_key in the configuration", provider=PROVIDER
        )
    return ControlPlane(config.api, config.api_key, seconds=config.seconds)


def is_for_a_fork(snapshot: Snapshot) -> bool:
    """Tell whether a snapshot was made for a fork, which removes it."""
    return any(FORK_NAME in name for name in (snapshot.id, *snapshot.names))


async def all_snapshots(machine_ids: Collection[str], config: E2BConfig) -> list[SnapshotInfo]:
    """Return the team's snapshots, the oldest first, but for those that forks live on.

    The service does not say what a snapshot was made of, only which ones were made of a sandbox.
    """
    api = control_plane(config)
    try:
        with machine_errors(None, "snapshots"):
            found = [one for one in await api.snapshots() if not is_for_a_fork(one)]
            origins = await _origins(api, machine_ids) if found else {}
    finally:
        await api.close()
    # the service lists the newest first
    return [SnapshotInfo(name=one.id, machine_id=origins.get(one.id)) for one in reversed(found)]


async def _origins(api: ControlPlane, machine_ids: Collection[str]) -> dict[str, str]:
    """Return the sandbox that each snapshot was made of."""
    places = asyncio.Semaphore(AT_ONCE)
    origins: dict[str, str] = {}

    async def ask(machine_id: str) -> None:
        async with places:
            for one in await api.snapshots(machine_id):
                origins[one.id] = machine_id

    try:
        async with asyncio.TaskGroup() as asking:
            for machine_id in machine_ids:
                asking.create_task(ask(machine_id))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return origins


async def drop_snapshot(snapshot: str, config: E2BConfig) -> None:
    """Remove a snapshot of the team, whatever became of its sandbox; no error when it is gone."""
    api = control_plane(config)
    try:
        with machine_errors(None, "delete_snapshot"):
            await remove(api, snapshot)
    finally:
        await api.close()


async def remove(api: ControlPlane, snapshot: str) -> None:
    """Remove a snapshot by its id or name; what is none is left alone.

    The service removes templates by the same call, and a snapshot is one: so it is looked up among the snapshots.
    """
    for one in await api.snapshots():
        if snapshot in _names(one):
            await api.delete_snapshot(one.id)
            return


def _names(snapshot: Snapshot) -> set[str]:
    """Return everything that a snapshot is called by: ``[namespace/]name[:tag]``, or its id."""
    full = {snapshot.id, *snapshot.names}
    without_tag = full | {name.partition(":")[0] for name in full}
    return without_tag | {name.rpartition("/")[2] for name in without_tag}
