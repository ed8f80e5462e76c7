"""The process of which sandboxes' daemons are forked, so that each starts in milliseconds.

It is single-threaded, has everything imported, and ends when its emulator does; then all sandboxes end too. Messages
are JSON, one per packet: `{"id", "tree", "accounts", "config"}` with the daemon's listening socket asks for a sandbox;
`{"id", "pid"}`, `{"id", "error"}` and `{"id", "ended"}` come back.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from support.e2b.envd.app import serve
from support.e2b.envd.config import EnvdConfig
from support.e2b.namespaces import die_with_parent, leave, move_in

PACKET = 128 << 10
# What the standard library loads at its first use: in a sandbox, the place it comes from may be out of sight.
_LATE = (
    "concurrent.futures.thread",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.ascii",
    "encodings.utf_8_sig",
    "unicodedata",
    "stringprep",
    "email.utils",
    "email.parser",
    "email.policy",
    "email.feedparser",
    "asyncio.runners",
    "asyncio.taskgroups",
    "mimetypes",
    "gzip",
    "bz2",
    "lzma",
    "pwd",
    "grp",
    "uuid",
    "traceback",
    "linecache",
    "locale",
    "aiohttp.web_fileresponse",
    "aiohttp.compression_utils",
    "aiohttp.multipart",
)


def _preload() -> None:
    for name in _LATE:
        importlib.import_module(name)
    import mimetypes

    mimetypes.init()
    asyncio.run(asyncio.to_thread(os.getpid))


def _sandbox(request: dict[str, Any], listener: socket.socket, channel: socket.socket) -> None:
    """Become a sandbox's keeper: fork its first process, and end when that does."""
    name = str(request["id"])
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        restricted = leave()
        pid = os.fork()
    except OSError as error:
        channel.send(json.dumps({"id": name, "error": str(error)}).encode())
        os._exit(1)
    if pid != 0:
        channel.send(json.dumps({"id": name, "pid": pid}).encode())
        channel.close()
        listener.close()
        os.waitpid(pid, 0)
        os._exit(0)
    die_with_parent()
    os.setsid()
    os.umask(0o022)
    try:
        move_in(str(request["tree"]), str(request["accounts"]), restricted=restricted)
    except OSError as error:
        channel.send(json.dumps({"id": name, "error": str(error)}).encode())
        os._exit(1)
    channel.close()
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin")
    asyncio.run(serve(EnvdConfig(**request["config"]), listener))


def _reap(children: dict[int, str], channel: socket.socket) -> None:
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if (name := children.pop(pid, None)) is not None:
            channel.send(json.dumps({"id": name, "ended": True}).encode())


def main(channel: socket.socket) -> None:
    """Fork sandboxes for the emulator at the other end, until it closes it."""
    die_with_parent()
    _preload()
    gc.freeze()
    children: dict[int, str] = {}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM):  # a Ctrl-C is the emulator's to handle
        signal.signal(number, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([channel.fileno(), reader], [], [])
        if reader in ready:
            os.read(reader, 4096)
            _reap(children, channel)
        if channel.fileno() not in ready:
            continue
        packet, fds, _, _ = socket.recv_fds(channel, PACKET, 1)
        if not packet:
            break
        request = json.loads(packet)
        with socket.socket(fileno=fds[0]) as listener:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                os.close(reader)
                os.close(writer)
                _sandbox(request, listener, channel)
                os._exit(0)
        children[pid] = request["id"]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as end:
        main(end)
