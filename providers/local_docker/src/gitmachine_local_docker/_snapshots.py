"""Snapshots: images made of a container's disk, known by their labels."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiodocker

from gitmachine import MachineError, SnapshotInfo
from gitmachine_local_docker._create import LABEL, MACHINE_LABEL, OWNER_LABEL, owner
from gitmachine_local_docker._endpoint import find_endpoint
from gitmachine_local_docker._engine import Engine
from gitmachine_local_docker._errors import PROVIDER, machine_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gitmachine_local_docker.config import DockerConfig

__all__ = [
    "COPY_LABEL",
    "SNAPSHOT_LABEL",
    "all_snapshots",
    "delete_copy",
    "delete_snapshot",
    "drop_snapshot",
    "image_of_copy",
    "snapshots_of",
    "take_snapshot",
]

SNAPSHOT_LABEL = "gitmachine.snapshot"
"""On an image: the id of the container that it was made of."""
_WHEN_LABEL = "gitmachine.snapshot.when"
"""When it was made, in nanoseconds: an image's own time is in seconds."""
COPY_LABEL = "gitmachine.copy"
"""On an image that was made for one fork, and so on that fork: removed with it."""
REPOSITORY = "gitmachine-snapshot"
_REFERENCE = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*(?::([\w][\w.-]{0,127}))?")


async def take_snapshot(
    engine: Engine, container: str, user: str, name: str | None, *, copy: bool = False, label: str | None = None
) -> str:
    """Make an image of a container's disk and return its name.

    Args:
        engine: where.
        container: the container.
        user: the user that commands run as; the image's own from then on.
        name: the image's name, with or without a tag; None makes one up.
        copy: whether it is for one fork.
        label: that fork's, for whoever finds the image without its fork.

    Raises:
        MachineError: the name is none, or taken by an image that is no snapshot of this container.
    """
    if name is None:
        name = f"{REPOSITORY}:{container[:12]}-{secrets.token_hex(4)}"
    elif (match := _REFERENCE.fullmatch(name)) is None:
        raise _error(f"{name!r} cannot be the name of an image: use lower-case letters, digits, '-' and '_'", container)
    elif not match[1]:
        name = f"{name}:latest"
    repository, _, tag = name.rpartition(":")
    if (there := await _labels(engine, name)) is not None and there.get(SNAPSHOT_LABEL) != container:
        raise _error(f"there is an image {name!r} that is no snapshot of this machine: choose another name", container)
    # An image has its container's labels, unless they are given anew; those would make its containers look like ours.
    labels = {
        SNAPSHOT_LABEL: "" if copy else container,
        COPY_LABEL: "1" if copy else "",
        _WHEN_LABEL: str(time.time_ns()),
        MACHINE_LABEL: "",
        LABEL: label or "",
    }
    await engine.commit(container, repository=repository, tag=tag, labels=labels, user=user)
    return name


async def snapshots_of(engine: Engine, container: str) -> list[str]:
    """Return the names of a container's snapshots, oldest first."""
    found = await engine.images(f"{SNAPSHOT_LABEL}={container}")
    found.sort(key=lambda image: int(image["Labels"].get(_WHEN_LABEL) or 0))
    return [name for image in found for name in image.get("RepoTags") or () if name != "<none>:<none>"]


async def all_snapshots(machine_ids: Collection[str], config: DockerConfig) -> list[SnapshotInfo]:
    """Return the snapshots on an engine, oldest first: of this user's containers from this host, and of these ones.

    One that lost its name to a later one is known by the image's id.
    """
    engine = Engine(await asyncio.to_thread(find_endpoint, config))
    try:
        with machine_errors(engine.dialer, None, "snapshots"):
            images = await engine.images(SNAPSHOT_LABEL)
    finally:
        await engine.close()
    images.sort(key=lambda image: int(image["Labels"].get(_WHEN_LABEL) or 0))
    return [
        SnapshotInfo(
            name=name,
            machine_id=labels[SNAPSHOT_LABEL],
            created=datetime.fromtimestamp(image["Created"], UTC),
            size_bytes=image["Size"],
        )
        for image in images
        if (labels := image["Labels"])[SNAPSHOT_LABEL]
        and (labels.get(OWNER_LABEL) == owner() or labels[SNAPSHOT_LABEL] in machine_ids)
        for name in [tag for tag in image.get("RepoTags") or () if tag != "<none>:<none>"] or [image["Id"]]
    ]


async def drop_snapshot(snapshot: str, config: DockerConfig) -> None:
    """Remove a snapshot, whatever became of its container; no error when it is gone.

    Raises:
        MachineError: the image is no snapshot, or a container is made of it.
    """
    engine = Engine(await asyncio.to_thread(find_endpoint, config))
    try:
        with machine_errors(engine.dialer, None, "delete_snapshot"):
            await delete_snapshot(engine, None, snapshot)
    finally:
        await engine.close()


async def delete_snapshot(engine: Engine, container: str | None, name: str) -> None:
    """Remove a snapshot.

    Raises:
        MachineError: the image is no snapshot.
    """
    labels = await _labels(engine, name)
    if labels is None:
        return
    if not labels.get(SNAPSHOT_LABEL):
        raise _error(f"the image {name!r} is no snapshot of a machine, so it is left alone", container)
    await engine.delete_image(name)


async def delete_copy(engine: Engine, label: str) -> None:
    """Remove the image that was made for a fork which was never made."""
    for image in await engine.images(f"{LABEL}={label}"):
        if image["Labels"].get(COPY_LABEL) == "1":
            with contextlib.suppress(aiodocker.DockerError):  # something lives on it, and it goes with that
                await engine.delete_image(image["Id"])


def image_of_copy(known: Mapping[str, object]) -> str | None:
    """Return the image that was made for this container alone, or None; `known` is what the engine says of it."""
    config = known["Config"]
    assert isinstance(config, dict)
    return str(config["Image"]) if (config.get("Labels") or {}).get(COPY_LABEL) == "1" else None


async def _labels(engine: Engine, name: str) -> dict[str, str] | None:
    try:
        return ((await engine.image(name)).get("Config") or {}).get("Labels") or {}
    except aiodocker.DockerError as error:
        if error.status == 404:
            return None
        raise


def _error(message: str, container: str | None) -> MachineError:
    return MachineError(message, machine_id=container, provider=PROVIDER, operation="snapshot")
