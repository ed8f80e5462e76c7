"""aiodocker: one exec in a running container by the bare API, output read and dropped."""

import asyncio

import aiodocker
from work import arguments, serve_async

given = arguments()
loop = asyncio.new_event_loop()


async def connect():
    docker = aiodocker.Docker(url=given["url"])
    return docker, await docker.containers.get(given["container"])


docker, container = loop.run_until_complete(connect())


async def work() -> None:
    execution = await container.exec(given["argv"])
    async with execution.start(detach=False) as stream:
        while await stream.read_out() is not None:
            pass
    if (await execution.inspect())["ExitCode"] != 0:
        raise SystemExit("the command failed")


serve_async(loop, work)
loop.run_until_complete(docker.close())
