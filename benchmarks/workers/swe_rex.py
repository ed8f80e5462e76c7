"""swe-rex: `execute` by HTTP to its server, which runs on this host and not in a container: the best that it can do."""

import asyncio
import secrets
import socket
import subprocess
import sys

from swerex.runtime.abstract import Command
from swerex.runtime.remote import RemoteRuntime
from work import arguments, serve_async

given = arguments()
loop = asyncio.new_event_loop()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
token = secrets.token_hex(16)
server = subprocess.Popen(
    [sys.executable, "-m", "swerex.server", "--host", "127.0.0.1", "--port", str(port), "--auth-token", token],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
runtime = RemoteRuntime(host="http://127.0.0.1", port=port, auth_token=token)
try:
    loop.run_until_complete(runtime.wait_until_alive(timeout=60))

    async def work() -> None:
        response = await runtime.execute(Command(command=given["argv"]))
        if response.exit_code != 0:
            raise SystemExit(f"exit code {response.exit_code}")

    serve_async(loop, work)
finally:
    server.kill()
    server.wait()
