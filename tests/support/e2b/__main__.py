"""`python -m support.e2b`: an emulator in a process of its own, until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import attrs

from support.e2b.server import running
from support.e2b.settings import Settings


async def serve(directory: Path, options: argparse.Namespace) -> None:
    """Serve, and print where as a line of JSON."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = attrs.evolve(Settings(), **json.loads(options.settings))
    async with running(directory, settings, port=options.port, sandbox_port=options.sandbox_port) as emulator:
        shown = {"api_url": emulator.api_url, "sandbox_url": emulator.sandbox_url, "api_key": emulator.api_key}
        print(json.dumps({**shown, "environment": emulator.environment, "pid": os.getpid()}), flush=True)
        await stop.wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="support.e2b", description="An emulator of E2B's control plane and envd.")
    parser.add_argument("--port", type=int, default=0, help="the control plane's port (0: a free one)")
    parser.add_argument("--sandbox-port", type=int, default=0, help="the data plane's port (0: a free one)")
    parser.add_argument("--settings", default="{}", help="fields of Settings as JSON")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="e2b-emulator-"))
    directory.chmod(0o755)
    try:
        asyncio.run(serve(directory, options))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
