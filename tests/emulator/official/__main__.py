"""What the official SDK must find: run by its own Python (`python tests/emulator/official sync|async`), once per SDK.

Each check prints a line of JSON with its name and, when it failed, why. Time budget: 10 s for a run.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
import traceback
from types import ModuleType

import check_commands
import check_errors
import check_files
import check_lives
from calls import SECONDS, Sandbox, got


def checks(module: ModuleType) -> list[str]:
    """Name the checks that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value) and list(inspect.signature(value).parameters) == ["sandbox"]
    ]


async def main() -> None:
    sandbox = await got(Sandbox.create(timeout=300, metadata={"who": "script"}, envs={"ONE": "one"}))
    try:
        for module in (check_commands, check_files, check_lives, check_errors):
            for name in checks(module):
                began, failure = time.monotonic(), None
                try:
                    await asyncio.wait_for(getattr(module, name)(sandbox), 2 * SECONDS)
                except Exception:
                    failure = traceback.format_exc()
                seconds = round(time.monotonic() - began, 3)
                print(json.dumps({"check": name, "failure": failure, "seconds": seconds}), flush=True)
    finally:
        await got(sandbox.kill())
    print(json.dumps({"done": True}), flush=True)


asyncio.run(main())
# The SDK's transport now and then aborts the interpreter while it shuts down ("PyGILState_Release").
os._exit(0)
