"""``gitmachine doctor e2b``: can the service be used from here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine import GitMachineError
from gitmachine.provider import Check
from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b._errors import machine_errors
from gitmachine_e2b.config import E2BConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["doctor"]

TIMEOUT_SECONDS = 30.0
KEY = "get a key at https://e2b.dev/dashboard and set E2B_API_KEY, or api_key in the configuration"


async def doctor(config: E2BConfig | None = None) -> Sequence[Check]:
    """Look for a key, and ask the service for the sandboxes there are. Nothing is made, so nothing is charged."""
    config = config if config is not None else E2BConfig()
    if not config.api_key:
        return [Check(name="key", ok=False, detail="there is no API key", fix=KEY)]
    checks = [Check(name="key", ok=True, detail="an API key is set")]
    api = ControlPlane(config.api, config.api_key, seconds=TIMEOUT_SECONDS)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with machine_errors(None, "list"):
                page = await api.page(limit=1)
    except (GitMachineError, TimeoutError) as error:
        detail = str(error) or f"no answer within {TIMEOUT_SECONDS:g} s"
        return [
            *checks,
            Check(name="service", ok=False, detail=detail, fix=f"check the key, and that {config.api} is reachable"),
        ]
    finally:
        await api.close()
    there = "sandboxes run" if page.sandboxes else "no sandbox runs"
    return [*checks, Check(name="service", ok=True, detail=f"{config.api} accepts the key; {there}")]
