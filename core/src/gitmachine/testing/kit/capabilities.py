"""Capabilities, both ways: what is declared works, what is not declared says so."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from gitmachine.errors import UnsupportedOperation
from gitmachine.execution import ExecRequest
from gitmachine.machine import Capability
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import POLL_SECONDS, Stage, script_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CapabilityBehaviours", "read_all", "refused"]


class CapabilityBehaviours(KitBase):
    """Tools with flags for what they can do rarely check the claims, and nobody checks the silence."""

    @behaviour("can-spawn", "spawn gives a live process if declared, else UnsupportedOperation")
    async def test_can_spawn(self, stage: Stage) -> None:
        """A flag for background commands without a handle is all that some tools have."""
        request = script_request("echo x")
        if Capability.SPAWN not in stage.raw.capabilities:
            await refused(stage, "spawn", lambda: stage.raw.spawn(request))
            return
        process = await stage.raw.spawn(request)
        output = await stage.within("a process ends", read_all(process.stdout))
        check(output == b"x\n", f"a spawned process printed {output!r}")
        check(await stage.within("a process is waited for", process.wait()) == 0, "`echo` did not exit with 0")

    @behaviour("can-end-input", "the input of a live process can be ended while its output goes on, if declared")
    async def test_can_end_input(self, stage: Stage) -> None:
        """Without an end of input, `sort`, `git upload-pack` and `tar` wait for ever."""
        stage.need(Capability.SPAWN, Capability.STDIN_EOF)
        process = await stage.raw.spawn(script_request("cat; echo end", open_stdin=True))
        await process.stdin.write(b"b\na\n")
        await process.stdin.close()
        await process.stdin.close()
        output = await stage.within("a process sees the end of its input", read_all(process.stdout))
        check(output == b"b\na\nend\n", f"`cat; echo end` printed {output!r}")
        check(await stage.within("the process ends", process.wait()) == 0, "`cat` did not exit with 0")

    @behaviour("can-pause", "pause and resume work if declared, else UnsupportedOperation")
    async def test_can_pause(self, stage: Stage) -> None:
        """A pause that only sets a flag is worse than none."""
        if Capability.PAUSE not in stage.raw.capabilities:
            await refused(stage, "pause", stage.raw.pause)
            await refused(stage, "resume", stage.raw.resume)
            return
        await stage.raw.pause()
        await stage.raw.resume()
        check((await stage.sh("echo on")).stdout == "on\n", "after pause and resume the machine is not usable")

    @behaviour("can-change-user", "a command runs as the user asked for if declared, else UnsupportedOperation")
    async def test_can_change_user(self, stage: Stage) -> None:
        """A user that is ignored in silence means that everything runs as root."""
        request = ExecRequest(argv=["id", "-un"], user=self.other_user, timeout=stage.patience)
        if Capability.USER not in stage.raw.capabilities:
            await refused(stage, "user", lambda: stage.raw.execute(request))
            return
        result = await stage.raw.execute(request)
        check(result.stdout.strip() == self.other_user, f"asked for {self.other_user}, ran as {result.stdout!r}")

    @behaviour("can-reach-ports", "get_host makes a port reachable if declared, else UnsupportedOperation")
    async def test_can_reach_ports(self, stage: Stage) -> None:
        """Addresses are handed out by rule, whether or not anything answers there."""
        port = 20_000 + secrets.randbelow(12_000)
        if Capability.PORTS not in stage.raw.capabilities:
            await refused(stage, "get_host", lambda: stage.raw.get_host(port))
            return
        server = script_request(self.port_server.format(port=port))
        async with stage.running(stage.machine.execute(server)) as command:
            host = await stage.raw.get_host(port)
            check(host.url == f"http://{host}", f"the address {host!r} has the URL {host.url!r}")
            status = await stage.within(f"a server answers at {host}", _status(host, command))
        check(status.startswith(b"HTTP/"), f"the server at {host} answered {status!r}")

    @behaviour(
        "can-quiesce", "terminate_processes ends what commands left behind if declared, else UnsupportedOperation"
    )
    async def test_can_quiesce(self, stage: Stage) -> None:
        """What still writes while the work is being published is lost; only the machine can end it for certain."""
        if Capability.QUIESCE not in stage.raw.capabilities:
            await refused(stage, "terminate_processes", stage.raw.terminate_processes)
            return
        beat = "while :; do echo x >> beat; sleep 0.05 || sleep 1; done"
        await stage.good(f"echo kept > kept; ( {beat} ) >/dev/null 2>&1 &")
        await stage.good('setsid env -i PATH="$PATH" sh -c "$1" >/dev/null 2>&1 </dev/null &', beat)
        await stage.grows("beat")
        await stage.raw.terminate_processes()
        await stage.still("beat", "a background process goes on after terminate_processes")
        check((await stage.sh("cat kept")).stdout == "kept\n", "after terminate_processes the machine is not usable")

    @behaviour("process-dialogue", "a live process answers while its input is open", needs=(Capability.SPAWN,))
    async def test_process_dialogue(self, stage: Stage) -> None:
        """Git's own protocol is a dialogue; where output waits for the end of input it stands still."""
        process = await stage.raw.spawn(
            script_request('while read -r line; do echo "got $line"; done', open_stdin=True)
        )
        stream, seen = process.stdout, b""
        for number in range(20):
            await process.stdin.write(f"{number}\n".encode())
            wanted = f"got {number}\n".encode()
            while not seen.endswith(wanted):
                seen += await stage.within(f"a process answers line {number}", anext(stream))
        await process.kill()
        check(seen == b"".join(f"got {n}\n".encode() for n in range(20)), f"the answers were {seen!r}")

    @behaviour("process-kill", "kill ends a live process with its children", needs=(Capability.SPAWN,))
    async def test_process_kill(self, stage: Stage) -> None:
        """Closing the connection, or killing the client's end of it, is what most do."""
        script = "sh -c 'while :; do echo x >> beat; sleep 0.05 || sleep 1; done' & echo on; wait"
        process = await stage.raw.spawn(script_request(script))
        await stage.grows("beat")
        await process.kill()
        await process.kill()
        code = await stage.within("a killed process is gone", process.wait())
        check(code == 137, f"a killed process exited with {code}, not 137")
        check(await process.wait() == code, "waiting a second time gave another exit code")
        await stage.still("beat", "a child goes on after its process was killed")
        output = await stage.within("the output of a killed process ends", read_all(process.stdout))
        check(output == b"on\n", f"a killed process had printed 'on', read was {output!r}")

    @behaviour("process-complete", "a live process delivers all its output, however late it is read")
    async def test_process_complete(self, stage: Stage) -> None:
        """What a process wrote last, just before its end, gets lost where the end overtakes the output."""
        stage.need(Capability.SPAWN)
        count = 4 << 20
        process = await stage.raw.spawn(script_request('head -c "$N" /dev/zero; echo err >&2', env={"N": str(count)}))
        errors = asyncio.ensure_future(read_all(process.stderr))
        await asyncio.sleep(POLL_SECONDS)
        output = await stage.within("the output of a process ends", read_all(process.stdout))
        check(len(output) == count, f"a process wrote {count} bytes, {len(output)} arrived")
        check(await stage.within("its errors end", errors) == b"err\n", "its standard error did not arrive")
        check(await process.wait() == 0, "it did not exit with 0")

    @behaviour("process-unread", "a live process that nobody reads hinders nothing else", needs=(Capability.SPAWN,))
    async def test_process_unread(self, stage: Stage) -> None:
        """One connection for everything, and one reader that waits: then a single full buffer stops the machine."""
        noise = await stage.raw.spawn(script_request("while :; do echo noise; done"))
        await asyncio.sleep(self.quiet_seconds)  # all its buffers are full by then
        try:
            result = await stage.sh("echo fine")
            check(result.stdout == "fine\n", "a command was hindered by an unread process")
            await stage.machine.write_file("file", b"x" * 300_000)
            check(len(await stage.machine.read_file("file")) == 300_000, "files are hindered by an unread process")
        finally:
            await noise.kill()


async def refused(stage: Stage, what: str, call: Callable[[], Awaitable[Any]]) -> None:
    """Fail unless an operation that is not declared is refused as such."""
    try:
        await stage.within(f"{what} is refused", call())
    except UnsupportedOperation as error:
        check(stage.raw.provider in str(error), f"the refusal has to name the provider {stage.raw.provider}: {error}")
    else:
        raise ConformanceFailure(f"the capability for {what} is not declared, but it was not refused")


async def read_all(stream: Any) -> bytes:
    """Read a stream to its end."""
    return b"".join([data async for data in stream])


async def _status(host: str, command: asyncio.Future[Any]) -> bytes:
    """Ask a server until it answers; return the first line."""
    name, _, port = host.rpartition(":")
    while True:
        if command.done():
            raise ConformanceFailure(f"the server in the machine ended: {command.result()}")
        try:
            reader, writer = await asyncio.open_connection(name, int(port))
        except OSError:
            await asyncio.sleep(POLL_SECONDS)
            continue
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            line = await reader.readline()
            if line:
                return line
        finally:
            writer.close()
