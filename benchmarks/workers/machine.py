"""A machine of ours, by the asynchronous class: streams output, or moves files, or has many of its kind.

Runs in the project's own environment, in a process of its own so that its memory can be told.
"""

import asyncio
import os
from pathlib import Path

from work import arguments, serve_async

from gitmachine import ExecRequest, create_machine
from gitmachine.machines.managed import ManagedMachine

given = arguments()
loop = asyncio.new_event_loop()


def make() -> ManagedMachine:
    return ManagedMachine(create_machine(given["provider"], **given["options"]))


machine = make()


async def stream() -> None:
    received = 0

    def count(data: bytes) -> None:
        nonlocal received
        received += len(data)

    request = ExecRequest(shell=f"head -c {given['count']} /dev/zero", on_stdout_bytes=count, max_output_bytes=1024)
    result = await machine.execute(request)
    if received != given["count"] or not result.ok:
        raise SystemExit(f"received {received} bytes, exit code {result.exit_code}")


async def upload() -> None:
    await machine.upload(Path(given["source"]), given["target"])


async def download() -> None:
    await machine.download(given["source"], Path(given["target"]))


async def clear() -> None:
    # As `aside` in ../transfers.py: a tree only moves, since ext4 is slow after many removals.
    target = given["target"]
    script = f"if [ -d {target} ]; then mv {target} $(mktemp -d {target}.XXXXXX)/; else rm -f {target}; fi"
    if given["work"] == "upload":
        await machine.execute(ExecRequest(shell=script))
    else:
        await (await asyncio.create_subprocess_shell(script)).wait()
    os.sync()


loop.run_until_complete(machine.start())
try:
    if given["work"] == "download":
        loop.run_until_complete(machine.upload(Path(given["local"]), given["source"]))
    works = {"stream": stream, "upload": upload, "download": download}
    serve_async(loop, works[given["work"]], clear if given.get("anew") else None)
finally:
    loop.run_until_complete(machine.stop())
