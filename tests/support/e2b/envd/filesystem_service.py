"""The service `filesystem.Filesystem` (reference, 2.5). No permission is checked: real envd acts as root."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from aiohttp import web

from support.e2b.envd.accounts import Account, caller
from support.e2b.envd.config import EnvdConfig
from support.e2b.envd.connect import Call, ConnectError, Message, Stream, streaming, unary
from support.e2b.envd.entries import entry, failures
from support.e2b.envd.process_service import crash
from support.e2b.envd.watch import Watch
from support.e2b.versions import at_least


def make_parents(path: str, account: Account) -> None:
    """Make what is missing of a directory, 0755 and the user's."""
    missing: list[str] = []
    current = path
    while not os.path.lexists(current):
        missing.append(current)
        current = str(Path(current).parent)
    for directory in reversed(missing):
        Path(directory).mkdir(mode=0o755)
        os.chown(directory, account.uid, account.gid)


class FilesystemService:
    """Directory operations, and watches over them."""

    def __init__(self, config: EnvdConfig) -> None:
        self._config = config
        self._watchers: dict[str, tuple[Watch, list[Message], asyncio.Task[None]]] = {}

    def routes(self) -> list[web.RouteDef]:
        methods: dict[str, Callable[[Call], Awaitable[Message]]] = {
            "Stat": self.stat,
            "ListDir": self.list_dir,
            "MakeDir": self.make_dir,
            "Move": self.move,
            "Remove": self.remove,
            "CreateWatcher": self.create_watcher,
            "GetWatcherEvents": self.get_watcher_events,
            "RemoveWatcher": self.remove_watcher,
        }
        routes = [web.post(f"/filesystem.Filesystem/{name}", unary(method)) for name, method in methods.items()]
        return [*routes, web.post("/filesystem.Filesystem/WatchDir", streaming(self.watch_dir))]

    def _path(self, call: Call, name: str = "path") -> str:
        return caller(call.request, self._config).resolve(call.get(name, ""), workdir=self._config.workdir)

    def _entry(self, path: str) -> Message:
        with failures(path):
            return entry(path, self._config.version)

    async def stat(self, call: Call) -> Message:
        return {"entry": self._entry(self._path(call))}

    async def list_dir(self, call: Call) -> Message:
        path, depth = self._path(call), int(call.get("depth", 0)) or 1
        with failures(path):
            if not os.path.exists(path):  # noqa: PTH110 -- paths are text here, also odd ones
                raise FileNotFoundError(path)
            if not os.path.isdir(path):  # noqa: PTH112
                raise ConnectError("invalid_argument", f"path is not a directory: {path}")
        entries = await asyncio.to_thread(lambda: list(self._walk(path, depth)))
        return {"entries": entries} if entries else {}

    def _walk(self, directory: str, depth: int) -> Iterator[Message]:
        for name in sorted(os.listdir(directory)):  # noqa: PTH208
            path = os.path.join(directory, name)  # noqa: PTH118
            try:
                yield entry(path, self._config.version)
            except FileNotFoundError:
                continue  # it went away meanwhile
            if depth > 1 and os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                yield from self._walk(path, depth - 1)

    async def make_dir(self, call: Call) -> Message:
        path = self._path(call)
        if os.path.isdir(path):  # noqa: PTH112
            raise ConnectError("already_exists", f"directory already exists: {path}")
        if os.path.lexists(path):
            raise ConnectError("invalid_argument", f"path already exists but it is not a directory: {path}")
        with failures(path):
            make_parents(path, caller(call.request, self._config))
        return {"entry": self._entry(path)}

    async def move(self, call: Call) -> Message:
        source, destination = self._path(call, "source"), self._path(call, "destination")
        with failures(source):
            os.lstat(source)
            make_parents(str(Path(destination).parent), caller(call.request, self._config))
            Path(source).replace(destination)
        return {"entry": self._entry(destination)}

    async def remove(self, call: Call) -> Message:
        path = self._path(call)
        with failures(path):
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                await asyncio.to_thread(shutil.rmtree, path)
            else:
                Path(path).unlink(missing_ok=True)
        return {}

    # Watching

    def _watch(self, call: Call) -> Watch:
        path = self._path(call)
        with failures(path):
            os.stat(path)  # noqa: PTH116
            if not os.path.isdir(path):  # noqa: PTH112
                raise ConnectError("invalid_argument", f"path {path} not a directory")
            recursive = bool(call.get("recursive")) and at_least(self._config.version, "0.1.4")
            return Watch(path, recursive=recursive)

    def _event(self, call_wants_entry: bool, watch: Watch, name: str, kind: str) -> Message:
        event: dict[str, object] = {"name": name, "type": f"EVENT_TYPE_{kind}"}
        if call_wants_entry and kind in {"CREATE", "WRITE", "CHMOD"} and at_least(self._config.version, "0.6.3"):
            try:
                event["entry"] = entry(os.path.join(watch.path, name), self._config.version)  # noqa: PTH118
            except OSError:
                return event  # it is gone already
        return event

    async def watch_dir(self, call: Call, stream: Stream) -> None:
        interval = call.ping_seconds
        wants_entry = bool(call.get("includeEntry"))
        with self._watch(call) as watch:
            await stream.send({"start": {}})
            if interval <= 0:
                crash()
            while True:
                try:
                    async with asyncio.timeout(interval):
                        name, kind = await watch.next()
                except TimeoutError:
                    await stream.send({"keepalive": {}})
                    continue
                await stream.send({"filesystem": self._event(wants_entry, watch, name, kind)})

    async def create_watcher(self, call: Call) -> Message:
        watch = self._watch(call)
        events: list[Message] = []
        wants_entry = bool(call.get("includeEntry"))

        async def collect() -> None:
            while True:
                events.append(self._event(wants_entry, watch, *await watch.next()))

        identifier = "w" + secrets.token_hex(10)
        self._watchers[identifier] = (watch, events, asyncio.ensure_future(collect()))
        return {"watcherId": identifier}

    async def get_watcher_events(self, call: Call) -> Message:
        _, events, _ = self._watcher(call)
        drained = list(events)
        events.clear()
        return {"events": drained} if drained else {}

    async def remove_watcher(self, call: Call) -> Message:
        watch, _, task = self._watcher(call)
        del self._watchers[call.get("watcherId")]
        task.cancel()
        watch.close()
        return {}

    def _watcher(self, call: Call) -> tuple[Watch, list[Message], asyncio.Task[None]]:
        identifier = call.get("watcherId", "")
        if identifier not in self._watchers:
            raise ConnectError("not_found", f"watcher with id {identifier} not found")
        return self._watchers[identifier]
