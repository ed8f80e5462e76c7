"""Many machines of ours at once: start, one command, stop; and what an idle one costs in memory."""

import asyncio
import gc
from pathlib import Path

from work import arguments, serve_async

from gitmachine import ExecRequest, create_machine
from gitmachine.machines.managed import ManagedMachine

given = arguments()
loop = asyncio.new_event_loop()


def make() -> ManagedMachine:
    return ManagedMachine(create_machine(given["provider"], **given["options"]))


async def one() -> None:
    machine = make()
    await machine.start()
    try:
        result = await machine.execute(ExecRequest(shell="true"))
        if not result.ok:
            raise SystemExit(result.stderr)
    finally:
        await machine.stop()


async def all_of_them() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(given["count"]):
            group.create_task(one())


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def memory() -> float:
    """Return the bytes of this process for each idle machine, the first ones not counted."""
    machines = [make() for _ in range(given["count"])]
    try:
        for machine in machines[:5]:
            await machine.start()
            await machine.execute(ExecRequest(shell="true"))
        before = resident()
        for machine in machines[5:]:
            await machine.start()
            await machine.execute(ExecRequest(shell="true"))
        return (resident() - before) / (len(machines) - 5)
    finally:
        await asyncio.gather(*(machine.stop() for machine in machines))


if given["work"] == "memory":
    print("ready", flush=True)
    input()
    print(loop.run_until_complete(memory()), flush=True)
else:
    serve_async(loop, all_of_them)
