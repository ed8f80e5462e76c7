"""Calls of the official SDK, written once for its two ways: `got` awaits what has to be awaited."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import e2b

MODE = sys.argv[1]
VERSION = tuple(int(part) for part in importlib.metadata.version("e2b").split(".")[:2])
NEW = VERSION >= (2, 60)
Sandbox: Any = e2b.Sandbox if MODE == "sync" else e2b.AsyncSandbox
SECONDS = 60.0


async def got(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def until(condition: Any) -> Any:
    """Ask again until the answer is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := await got(condition())):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)
    return found


async def raises(kind: type[BaseException], call: Any) -> Any:
    try:
        await got(call())
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def knob(verb: str, place: str, **body: Any) -> Any:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(os.environ["E2B_API_URL"] + "/_emulator/" + place, data=data, method=verb)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        raw = answer.read()
    return json.loads(raw) if raw else None
