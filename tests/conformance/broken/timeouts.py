"""Machines that are broken in how they end commands."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from conformance.broken.registry import breaks
from gitmachine.errors import CommandTimeoutError
from gitmachine.execution import ExecRequest, ExecResult, Process, run_process
from gitmachine.testing import FakeMachine
from gitmachine.testing.fake.tree import _processes


class ChangesTimeouts(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        try:
            return await super().execute(request)
        except CommandTimeoutError as error:
            raise CommandTimeoutError(str(error), result=self.changed(error.result)) from error

    def changed(self, result: ExecResult) -> ExecResult:
        raise AssertionError("a subclass says")


@breaks("timeout", "does not say so")
class DoesNotSayThatItTimedOut(ChangesTimeouts):
    def changed(self, result: ExecResult) -> ExecResult:
        return attrs.evolve(result, timed_out=False)


@breaks("timeout-output", "the output before the timeout is")
class ThrowsOutputAway(ChangesTimeouts):
    def changed(self, result: ExecResult) -> ExecResult:
        return attrs.evolve(result, stdout_bytes=b"", stderr_bytes=b"")


class KillsItsWay(FakeMachine):
    """Changes how a command with a timeout is killed, and only that."""

    async def execute(self, request: ExecRequest) -> ExecResult:
        if not self.concerns(request):
            return await super().execute(request)
        live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
        process: Any = await self.launch(live)
        if hasattr(process, "_child"):
            process.kill = lambda: self.kill(process)
        return await run_process(process, live)

    def concerns(self, request: ExecRequest) -> bool:
        return request.timeout is not None

    async def kill(self, process: Any) -> None:
        leader = process._child.pid
        assert self._body is not None
        table = _processes()
        everything = self._body.tree._of_command(table, leader, process._mark)
        chosen = self.chosen(leader, everything, table)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in chosen:
                _send(pid, number)
        async with asyncio.timeout(10):
            await process._over.wait()

    def chosen(self, leader: int, everything: set[int], table: Mapping[int, Any]) -> set[int]:
        raise AssertionError("a subclass says")


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _descends(table: Mapping[int, Any], pid: int, leader: int) -> bool:
    while pid in table and pid != leader:
        pid = table[pid].parent
    return pid == leader


@breaks("timeout-children", "a child goes on")
class ForgetsChildren(KillsItsWay):
    def chosen(self, leader: int, everything: set[int], table: Mapping[int, Any]) -> set[int]:
        plain = {p for p in everything if p in table and table[p].session == leader and _descends(table, p, leader)}
        return (everything - plain) | {leader}


@breaks("timeout-setsid", "called setsid goes on")
class KillsTheSessionOnly(KillsItsWay):
    def chosen(self, leader: int, everything: set[int], table: Mapping[int, Any]) -> set[int]:
        return {pid for pid in everything if pid in table and table[pid].session == leader}


@breaks("timeout-clean-env", "cleared environment goes on")
class KillsDescendantsOnly(KillsItsWay):
    def chosen(self, leader: int, everything: set[int], table: Mapping[int, Any]) -> set[int]:
        return {pid for pid in everything if _descends(table, pid, leader)}


@breaks("timeout-stubborn", "ignores signals goes on")
class AsksPolitely(KillsItsWay):
    async def kill(self, process: Any) -> None:
        leader = process._child.pid
        assert self._body is not None
        for pid in self._body.tree._of_command(_processes(), leader, process._mark):
            _send(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(0.5):
                await process._over.wait()
        except TimeoutError:
            _pretend(process)


@breaks("timeout-usable", "after a timeout a command gave")
class IsDazedAfterATimeout(FakeMachine):
    dazed = False

    async def execute(self, request: ExecRequest) -> ExecResult:
        try:
            result = await super().execute(request)
        except CommandTimeoutError:
            self.dazed = True
            raise
        return attrs.evolve(result, exit_code=0) if self.dazed else result


@breaks("timeout-others", "was disturbed by a timeout")
class RestartsEverything(KillsItsWay):
    async def kill(self, process: Any) -> None:
        assert self._body is not None
        await asyncio.to_thread(self._body.tree.kill_all)
        async with asyncio.timeout(10):
            await process._over.wait()


@breaks("timeout-own-code", "was called timed out")
class Takes124ForATimeout(FakeMachine):
    async def execute(self, request: ExecRequest) -> ExecResult:
        result = await super().execute(request)
        if result.exit_code == 124 and request.timeout is not None:
            raise CommandTimeoutError("timed out", result=result)
        return result


@breaks("cancel", "goes on after it was cancelled")
class OnlyStopsWaiting(KillsItsWay):
    def concerns(self, request: ExecRequest) -> bool:
        return request.timeout is None

    async def kill(self, process: Any) -> None:
        _pretend(process)


def _pretend(process: Any) -> None:
    process._exit_code = 137
    process._end()


Spawned = Callable[[Any], None]


@breaks("process-kill", "a child goes on after its process was killed")
class KillsOnlyTheLeader(FakeMachine):
    async def spawn(self, request: ExecRequest) -> Process:
        process: Any = await super().spawn(request)

        async def kill() -> None:
            if not process._over.is_set():
                process._child.kill()
                async with asyncio.timeout(10):
                    await process._over.wait()

        process.kill = kill
        return process
