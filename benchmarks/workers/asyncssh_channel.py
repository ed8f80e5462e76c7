"""asyncssh: one channel for each command on one connection."""

import asyncio

import asyncssh
from work import arguments, serve_async

given = arguments()
loop = asyncio.new_event_loop()
connection = loop.run_until_complete(
    asyncssh.connect(
        given["host"],
        given["port"],
        username=given["user"],
        client_keys=[given["key"]],
        known_hosts=given["known_hosts"],
        config=None,
        agent_path=None,
    )
)


async def work() -> None:
    done = await connection.run(
        given["command"], encoding=None, stdout=asyncssh.DEVNULL if given.get("drop") else asyncssh.PIPE
    )
    if done.exit_status != 0:
        raise SystemExit(f"exit code {done.exit_status}")


serve_async(loop, work)
connection.close()
loop.run_until_complete(connection.wait_closed())
