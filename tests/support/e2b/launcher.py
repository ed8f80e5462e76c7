"""The emulator's end of the zygote: starts sandboxes' daemons, freezes, thaws and kills them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from support.e2b.envd.config import EnvdConfig

_TESTS = Path(__file__).resolve().parents[2]
_SECONDS = 60.0
_numbers = itertools.count(1)


class Guest:
    """A running sandbox: its first process, and the address its daemon listens at."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.pid = 0
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.error: str | None = None
        self._frozen: list[int] = []

    def freeze(self) -> None:
        """Stop every process, parents before their children; what was stopped already stays out of `thaw`."""
        self._frozen = []
        seen: set[int] = set()
        while new := [pid for pid in _family(self.pid) if pid not in seen]:  # one may have forked meanwhile
            for pid in new:
                seen.add(pid)
                if _state(pid) not in {"T", "t", "Z", None}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        self._frozen.append(pid)

    def thaw(self) -> None:
        """Let every process go on, children before their parents, who then never learn that they were stopped."""
        for pid in reversed(self._frozen):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    async def kill(self) -> None:
        """Kill the first process, and the kernel all others."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        async with asyncio.timeout(_SECONDS):
            await self.ended.wait()


class Launcher:
    """Owns the zygote; bound to the event loop that starts it."""

    def __init__(self, accounts: Path) -> None:
        self._accounts = accounts
        self._guests: dict[str, Guest] = {}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        with theirs:
            argv = [sys.executable, "-m", "support.e2b.zygote", str(theirs.fileno())]
            self._process = subprocess.Popen(
                argv, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._channel.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel, self._hear)

    def _hear(self) -> None:
        try:
            packet = self._channel.recv(64 << 10)
        except BlockingIOError:
            return
        except ConnectionResetError:
            packet = b""
        if not packet:
            self._lose()
            return
        message = json.loads(packet)
        guest = self._guests[message["id"]]
        if "pid" in message:
            guest.pid = message["pid"]
            if not guest.started.done():
                guest.started.set_result(None)
        elif "error" in message:
            if not guest.started.done():
                guest.started.set_exception(OSError(message["error"]))
            else:
                guest.error = message["error"]
        else:
            guest.ended.set()
            del self._guests[guest.name]

    def _lose(self) -> None:
        """Let nobody wait for a zygote that has ended, and its sandboxes with it."""
        self._loop.remove_reader(self._channel)
        for guest in self._guests.values():
            guest.ended.set()
            if not guest.started.done():
                guest.started.set_exception(OSError("the process that starts sandboxes has ended"))
        self._guests.clear()

    async def start(self, tree: Path, config: EnvdConfig) -> Guest:
        """Start a daemon over a tree.

        Raises:
            OSError: this machine allows no namespaces.
        """
        name = f"{config.sandbox_id}-{os.getpid()}-{next(_numbers)}"
        guest = Guest(name, f"\0e2b-emulator-{name}")
        self._guests[name] = guest
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(guest.address)
            listener.listen(512)
            places = {"tree": str(tree), "accounts": str(self._accounts)}
            request = {"id": name, **places, "config": attrs.asdict(config)}
            socket.send_fds(self._channel, [json.dumps(request).encode()], [listener.fileno()])
        async with asyncio.timeout(_SECONDS):
            await guest.started
        return guest

    async def close(self) -> None:
        """End the zygote and with it every sandbox."""
        self._loop.remove_reader(self._channel)
        self._channel.close()
        await asyncio.to_thread(self._process.wait, _SECONDS)


def _family(root: int) -> Iterator[int]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(directory.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        yield pid
        waiting += children.get(pid, [])


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
