"""The service `process.Process` (reference, 2.3)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from support.e2b.envd.accounts import caller
from support.e2b.envd.config import EnvdConfig
from support.e2b.envd.connect import (
    Call,
    ConnectError,
    Message,
    Stream,
    Unary,
    decode,
    envelopes,
    pick,
    streaming,
    unary,
)
from support.e2b.envd.processes import Process, Subscriber, Table, listening, spawn
from support.e2b.versions import at_least

_SIGNALS = {"SIGNAL_SIGTERM": signal.SIGTERM, "SIGNAL_SIGKILL": signal.SIGKILL, 15: signal.SIGTERM, 9: signal.SIGKILL}


def crash() -> None:
    """Die as real envd does on a ping interval that is not positive, and everything in the sandbox with it."""
    os._exit(2)


class ProcessService:
    """Starts processes and lets clients listen to them."""

    def __init__(self, config: EnvdConfig, table: Table) -> None:
        self._config = config
        self._table = table

    def routes(self) -> list[web.RouteDef]:
        simple: dict[str, Callable[[Call], Message]] = {
            "List": self.list,
            "SendSignal": self.send_signal,
            "Update": self.update,
        }
        if at_least(self._config.version, "0.5.2"):
            simple["CloseStdin"] = self.close_stdin
        routes = [web.post(f"/process.Process/{name}", unary(_later(method))) for name, method in simple.items()]
        return [
            *routes,
            web.post("/process.Process/SendInput", unary(self.send_input)),
            web.post("/process.Process/Start", streaming(self.start)),
            web.post("/process.Process/Connect", streaming(self.connect)),
            web.post("/process.Process/StreamInput", streaming(self.stream_input, many=True)),
        ]

    async def start(self, call: Call, stream: Stream) -> None:
        account = caller(call.request, self._config)
        timeout = call.timeout
        if timeout == 0:
            raise ConnectError("deadline_exceeded", "context deadline exceeded")
        config = call.get("process") or {}
        if not config.get("cmd"):
            raise ConnectError("invalid_argument", "process config has no cmd")
        cwd = account.resolve(config.get("cwd") or "", workdir=self._config.workdir)
        if not Path(cwd).is_dir():
            raise ConnectError("invalid_argument", f"cwd '{cwd}' does not exist")
        pty = call.get("pty")
        size = None if pty is None else _size(pty)
        stdin = bool(call.get("stdin", True)) or not at_least(self._config.version, "0.3.0")
        env = {**self._config.environment(), **(config.get("envs") or {})}
        argv = [config["cmd"], *(config.get("args") or [])]
        popen, master = spawn(argv, account, cwd, env, stdin=stdin, size=size)
        process, subscriber = self._table.start(popen, config, call.get("tag"), master)
        if timeout is not None:
            # The deadline is the process's too, also after its client has hung up.
            timer = asyncio.get_running_loop().call_later(timeout, process.signal, signal.SIGKILL)
            process.exit_status.add_done_callback(lambda _: timer.cancel())
        await self._follow(call, stream, process, subscriber)

    async def connect(self, call: Call, stream: Stream) -> None:
        process = self._table.find(call.get("process") or {}, ended=True)
        end = process.end
        await self._follow(call, stream, process, process.subscribe(), end)

    async def _follow(
        self, call: Call, stream: Stream, process: Process, subscriber: Subscriber, end: Message | None = None
    ) -> None:
        interval = call.ping_seconds
        async with listening(process, subscriber):
            await stream.send({"event": {"start": {"pid": process.pid}}})
            if interval <= 0:
                crash()
            if end is not None:  # it was over before, and only this is retained
                await stream.send(end)
                return
            while True:
                try:
                    async with asyncio.timeout(interval):
                        event = await subscriber.get()
                except TimeoutError:
                    event = {"event": {"keepalive": {}}}
                await stream.send(event)
                if "end" in event["event"]:
                    return

    def list(self, call: Call) -> Message:
        found = [
            {"config": process.config, "pid": process.pid} | ({} if process.tag is None else {"tag": process.tag})
            for process in self._table.running()
        ]
        return {"processes": found} if found else {}

    async def send_input(self, call: Call) -> Message:
        process = self._table.find(call.get("process") or {})
        await self._input(process, call.get("input") or {})
        return {}

    async def _input(self, process: Process, message: Message) -> None:
        if "pty" in message:
            await process.write(decode(message["pty"]), to_pty=True)
        elif process.pty is not None:
            raise ConnectError("internal", "error writing to stdin: tty assigned to process, use pty input")
        else:
            await process.write(decode(message.get("stdin", "")), to_pty=False)

    async def stream_input(self, call: Call, stream: Stream) -> None:
        process: Process | None = None
        async for message in envelopes(call.request):
            if "start" in message:
                process = self._table.find(message["start"].get("process") or {})
            elif "data" in message:
                if process is None:
                    raise ConnectError("invalid_argument", "data before start")
                await self._input(process, message["data"].get("input") or {})
        await stream.send({})

    def close_stdin(self, call: Call) -> Message:
        process = self._table.find(call.get("process") or {})
        if process.pty is not None:
            raise ConnectError("unknown", "cannot close stdin for PTY process")
        process.close_stdin()
        return {}

    def send_signal(self, call: Call) -> Message:
        process = self._table.find(call.get("process") or {})
        number = _SIGNALS.get(call.get("signal", 0))
        if number is None:
            raise ConnectError("unimplemented", f"invalid signal: {call.get('signal')}")
        process.signal(number)
        return {}

    def update(self, call: Call) -> Message:
        process = self._table.find(call.get("process") or {})
        pty = call.get("pty")
        if pty is not None:
            process.resize(*_size(pty))
        return {}


def _size(pty: Message) -> tuple[int, int]:
    size = pick(pty, "size") or {}
    return int(size.get("cols", 0)), int(size.get("rows", 0))


def _later(method: Callable[[Call], Message]) -> Unary:
    async def handle(call: Call) -> Message:
        return method(call)

    return handle
