"""What GitMachine puts around any machine: states, a lock, deadlines, errors in our terms, an end for its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitmachine.archives.model import DEFAULT_MAX_ENTRIES, DEFAULT_MAX_TRANSFER_BYTES
from gitmachine.clock import command_clock
from gitmachine.errors import ConfigError, InvalidStateError, MachineError
from gitmachine.machine import DEFAULT_MAX_READ_BYTES, Capability, Host, MachineState
from gitmachine.machines.answers import asked, bytes_owed, process_owed, result_owed
from gitmachine.machines.calls import DeadlineError, bounded, in_our_terms, stop_quietly
from gitmachine.machines.commands import LEAVE_SECONDS
from gitmachine.machines.guarded import GuardedMachine
from gitmachine.machines.guest import Guest
from gitmachine.machines.transitions import TRANSITIONS, Answer, Deadlines
from gitmachine.pump import kill_quietly

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from gitmachine.archives import Transfer
    from gitmachine.execution import ExecRequest, ExecResult, Process
    from gitmachine.machine import Machine

__all__ = ["Deadlines", "ManagedMachine"]


class ManagedMachine(GuardedMachine):
    """Guards a machine, and is one itself.

    Commands and file operations run side by side. Transitions (start, pause, resume, stop) exclude each other; what is
    asked for while one is under way waits for its end and is then judged by the new state. A pause does not wait for
    commands: it freezes them, and their clocks with them. A stop ends them.

    A machine that does not answer within its deadline, or says that it is gone, is lost: its state is stopped, all its
    commands end with MachineLostError, and `on_lost` is called once with the reason.
    """

    # Transitions

    async def start(self) -> None:
        """Make the machine; no-op while it runs, a new one after stop.

        Raises:
            MachineStartError: it could not be started, or not in time.
            InvalidStateError: it is paused, or was lost and may still exist.
        """
        await self._change("start", self._start)

    async def pause(self) -> None:
        """Freeze the machine with its running commands; no-op unless it runs."""
        await self._change("pause", self._pause)

    async def resume(self) -> None:
        """Continue the machine; no-op unless it is paused."""
        await self._change("resume", self._resume)

    async def stop(self) -> None:
        """End every command, with InvalidStateError to whoever waits for it, and remove the machine."""
        await self._change("stop", self._stop)

    async def _change(self, operation: str, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._transition, self._copying:  # whoever holds them has a deadline
            self._notice_end()
            answer = TRANSITIONS[operation][self.state]
            if answer is Answer.NOTHING:
                return
            if answer is Answer.REFUSE:
                raise self._wrong_state(operation)
            if operation in {"pause", "resume"}:
                self._need(Capability.PAUSE, operation)
            await change()

    async def _start(self) -> None:
        if self._lost is not None and self._inner.state not in {MachineState.IDLE, MachineState.STOPPED}:
            raise self._error(
                InvalidStateError,
                f"the machine was lost ({self._lost}) and may still exist: connect to it again, or make another one",
                "start",
            )
        await self._call("start", self._started(), self._deadlines.start, clock=self._wall)
        self._lost, self._alive = None, True
        self._clock.resume()

    async def _started(self) -> None:
        await asked(self._inner.start)
        if self._inner.state is MachineState.IDLE:
            raise TypeError("it returned, and its state is still 'idle': it has to be 'running' then")

    async def _pause(self) -> None:
        self._clock.pause()
        try:
            await self._call("pause", asked(self._inner.pause), self._deadlines.pause, clock=self._wall)
        finally:
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    async def _resume(self) -> None:
        try:
            await self._call("resume", asked(self._inner.resume), self._deadlines.resume, clock=self._wall)
        finally:
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    async def _stop(self) -> None:
        self._stopping = True
        try:
            ended = self._commands.expire("the machine is stopping")
            await self._call("stop", asked(self._inner.stop), self._deadlines.stop, clock=self._wall)
            self._alive = False
            await self._commands.gone(ended, LEAVE_SECONDS)
        finally:
            self._stopping = False
            if self.state is not MachineState.PAUSED:
                self._clock.resume()

    async def refresh(self) -> None:
        """Have the state be what the machine is; nothing is asked of one that is lost, or was never there."""
        async with self._transition:
            self._notice_end()
            if self.state not in {MachineState.RUNNING, MachineState.PAUSED}:
                return
            await self._call("refresh", self._inner.refresh(), self._deadlines.resume, clock=self._wall)
            if self.state is MachineState.PAUSED:
                self._clock.pause()
            else:
                self._clock.resume()

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end; an error of a callback or of the input comes through as it is.

        Raises:
            CommandTimeoutError: it was killed with all its children.
            InvalidStateError: the machine does not run, or it stopped and ended the command.
            MachineLostError: the machine is gone, or did not report the command's end.
            ConfigError: the request has a terminal.
        """
        if request.terminal is not None:
            raise ConfigError("a command on a terminal is a dialogue: spawn it, for execute reads to the end")
        await self._ready("execute", changes=True)
        if request.user is not None:
            self._need(Capability.USER, "run commands as another user")
        timeout = request.timeout
        limit = self._clock.limit(None if timeout is None else timeout + self._deadlines.execute_margin)
        guest = Guest(request, limit)
        token = command_clock.set(self._clock)
        self._commands.enter(limit, permitted=self.gate.permitted)
        try:
            async with limit:
                result = result_owed(await asked(self._inner.execute, guest.request))
        except Exception as error:  # whatever a provider raises: told apart in one place
            ours = error if error is guest.error else self._command_error(error, limit, timeout)
            if ours is error:
                raise
            raise ours from error
        finally:
            self._commands.leave(limit)
            command_clock.reset(token)
        await guest.deliver(result)
        return result

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command and return the live process; needs `Capability.SPAWN`, and `PTY` for one on a terminal."""
        self._need(Capability.SPAWN, "spawn")
        if request.terminal is not None:
            self._need(Capability.PTY, "run commands on a terminal")
        await self._ready("spawn", changes=True)
        if request.user is not None:
            self._need(Capability.USER, "run commands as another user")
        made: list[Process] = []

        async def spawn() -> Process:
            made.append(process_owed(await asked(self._inner.spawn, request)))
            return made[0]

        try:
            process = await self._call("spawn", spawn(), self._deadlines.spawn)
        except BaseException:
            for process in made:  # it was started in the very moment that we were cancelled
                await kill_quietly(process)
            raise
        self._commands.add(process, permitted=self.gate.permitted)
        return process

    async def end_commands(self, grace_seconds: float) -> int:
        """End what runs without a permit of the gate: wait for its own end, then kill it; return how many were killed.

        Whoever waits for a killed command gets InvalidStateError. A paused machine is given no grace: nothing in it
        can end by itself.
        """
        grace = 0.0 if self._clock.paused else grace_seconds
        return await self._commands.end(grace, self.gate.reason or "its end was asked for")

    async def terminate_processes(self) -> None:
        """Kill what commands left behind; needs `Capability.QUIESCE`."""
        self._need(Capability.QUIESCE, "terminate_processes")
        await self._ready("terminate_processes")
        await self._call("terminate_processes", asked(self._inner.terminate_processes), self._deadlines.stop)

    # Files and ports

    async def read_file(self, path: str, *, max_bytes: int = DEFAULT_MAX_READ_BYTES) -> bytes:
        """Return a file's exact bytes."""
        await self._ready("read_file")
        call = bytes_owed(self._inner.read_file, path, max_bytes=max_bytes)
        return await self._call("read_file", call, self._deadlines.files, path=path)

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Replace a file atomically."""
        await self._ready("write_file", changes=True)
        await self._call("write_file", asked(self._inner.write_file, path, data), self._deadlines.files, path=path)

    async def list_files(self, path: str = ".") -> list[str]:
        """Return the sorted names in a directory."""
        await self._ready("list_files")
        return await self._call("list_files", asked(self._inner.list_files, path), self._deadlines.files, path=path)

    async def upload(self, source: Path, target: str) -> Transfer:
        """Copy something of this host into the machine; it may take any time, as long as it goes on."""
        await self._ready("upload", changes=True)
        return await self._move("upload", asked(self._inner.upload, source, target), target)

    async def download(
        self,
        source: str,
        target: Path,
        *,
        max_bytes: int = DEFAULT_MAX_TRANSFER_BYTES,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> Transfer:
        """Copy something of the machine to this host; it may take any time, as long as it goes on."""
        await self._ready("download")
        call = asked(self._inner.download, source, target, max_bytes=max_bytes, max_entries=max_entries)
        return await self._move("download", call, source)

    async def get_host(self, port: int) -> Host:
        """Return where a port can be reached; needs `Capability.PORTS`."""
        self._need(Capability.PORTS, f"make port {port} reachable")
        await self._ready("get_host")
        return await self._call("get_host", asked(self._inner.get_host, port), self._deadlines.spawn)

    # Copies

    async def snapshot(self, name: str | None = None) -> str:
        """Save the machine's disk and return what it is called; needs `Capability.SNAPSHOT`.

        A pause or a stop that is asked for meanwhile waits for its end; commands go on.
        """
        self._need(Capability.SNAPSHOT, "make snapshots")
        await self._ready("snapshot", changes=True)
        async with self._copying:
            self._check("snapshot", changes=True)
            return await self._call("snapshot", asked(self._inner.snapshot, name), self._deadlines.copy, loses=False)

    async def snapshots(self) -> list[str]:
        """Return the machine's snapshots; needs `Capability.SNAPSHOT`."""
        self._need(Capability.SNAPSHOT, "list snapshots")
        await self._ready("snapshots")
        return await self._call("snapshots", asked(self._inner.snapshots), self._deadlines.files)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot; needs `Capability.SNAPSHOT`."""
        self._need(Capability.SNAPSHOT, "delete snapshots")
        await self._ready("delete_snapshot")
        call = asked(self._inner.delete_snapshot, snapshot)
        await self._call("delete_snapshot", call, self._deadlines.copy, loses=False)

    async def fork(self, *, label: str | None = None) -> Machine:
        """Return a running copy of the machine, which nobody guards yet; needs `Capability.FORK`.

        A pause or a stop that is asked for meanwhile waits for its end; commands go on.
        """
        self._need(Capability.FORK, "fork")
        made: list[Machine] = []

        async def fork() -> Machine:
            made.append(await asked(self._inner.fork, label=label))
            return made[0]

        await self._ready("fork", changes=True)
        async with self._copying:
            self._check("fork", changes=True)
            try:
                return await self._call("fork", fork(), self._deadlines.copy, loses=False)
            except BaseException:
                for machine in made:  # it was made in the very moment that we were cancelled
                    await stop_quietly(machine, self._deadlines.stop)
                raise

    def hint(self, result: ExecResult) -> str | None:
        """Return the machine's advice about a command that failed."""
        return self._inner.hint(result)

    async def close(self) -> None:
        """Let go of the machine and leave it as it is."""
        async with self._transition:
            try:
                await bounded(
                    asked(self._inner.close),
                    self._deadlines.close,
                    clock=self._wall,
                    cancel_seconds=self._deadlines.cancel,
                )
            except DeadlineError as error:
                message = f"the {self.provider} machine was not let go within {self._deadlines.close:g} s"
                raise self._error(MachineError, message, "close") from error
            except Exception as error:  # whatever a provider raises: put in our terms
                ours = in_our_terms(error, self._inner, "close")
                if ours is error:
                    raise
                raise ours from error
