"""Making a sandbox so that none is left over: what was made, but not told to us, is found by a mark and ended."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from gitmachine_e2b._errors import PROBLEMS, Broken, Refusal
from gitmachine_e2b._frames import FrameError
from gitmachine_e2b._records import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine_e2b._api import ControlPlane
    from gitmachine_e2b._records import Sandbox
    from gitmachine_e2b.config import E2BConfig

LABEL = "gitmachine"
"""The metadata that holds a session's key."""
BIRTH = "gitmachine-birth"
"""The metadata that holds a number made for one request."""
SOURCE = "gitmachine-snapshot"
"""The metadata that names a snapshot made for this sandbox alone, to be removed with it."""
LOOKS_SECONDS = (0.0, 1.0)
"""When to look for a sandbox that may have been made: at once, and once more."""
CLEANUP_SECONDS = 30.0


def creation(config: E2BConfig, *, label: str | None, template: str, source: str | None = None) -> dict[str, Any]:
    """Return the body of a request to make a sandbox; what is not set is left out, which the service tells apart."""
    metadata = dict(config.metadata)
    if label is not None:
        metadata[LABEL] = label
    if source is not None:
        metadata[SOURCE] = source
    metadata[BIRTH] = secrets.token_hex(8)
    body: dict[str, Any] = {
        "templateID": template,
        "timeout": config.timeout,
        "secure": config.secure,
        "metadata": metadata,
        "envVars": dict(config.envs),
    }
    if config.auto_pause is not None:
        body["autoPause"] = config.auto_pause
    if config.auto_resume is not None:
        body["autoResume"] = {"enabled": config.auto_resume}
    if config.allow_internet_access is not None:
        body["allow_internet_access"] = config.allow_internet_access
    if config.network is not None:
        body["network"] = config.network.body()
    return body


async def create(api: ControlPlane, body: Mapping[str, Any]) -> Sandbox:
    """Make a sandbox, or none.

    A request whose answer did not arrive may have made one. It is not repeated: what carries its mark is ended.

    Raises:
        Refusal: the service refused.
        Broken: no answer, or none that can be read.
    """
    try:
        return await api.create(body)
    except Refusal as refusal:
        if refusal.status >= 500:  # also a proxy's, which does not know
            await clean_up(api, body["metadata"][BIRTH])
        raise
    except Broken as broken:
        if broken.sent:
            await clean_up(api, body["metadata"][BIRTH])
        raise
    except (RecordError, FrameError, asyncio.CancelledError):
        await clean_up(api, body["metadata"][BIRTH])
        raise


async def clean_up(api: ControlPlane, birth: str) -> None:
    """End whatever was made with this mark; goes on when the caller is cancelled."""
    task = asyncio.ensure_future(_end(api, birth))
    _cleaning.add(task)
    task.add_done_callback(_cleaning.discard)
    await asyncio.shield(task)


_cleaning: set[asyncio.Task[None]] = set()
"""Somebody must hold them when their caller was cancelled a second time."""


async def _end(api: ControlPlane, birth: str) -> None:
    try:
        async with asyncio.timeout(CLEANUP_SECONDS):
            for seconds in LOOKS_SECONDS:
                await asyncio.sleep(seconds)
                found = [sandbox.id async for sandbox in api.sandboxes(metadata={BIRTH: birth})]
                for sandbox_id in found:
                    await api.kill(sandbox_id)
                if found:
                    return
    except (*PROBLEMS, TimeoutError):
        return  # its timeout ends it, and its label finds it; the error that brought us here matters more
