"""A machine's place on its host: the connection, the shells, and what is done to all of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from typing import TYPE_CHECKING

from gitmachine import ExecRequest, InvalidStateError, MachineError, MachineLostError, MachineUnreachableError
from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import file_error
from gitmachine.machines.channel import (
    ChannelLostError,
    WarmPool,
    freeze_script,
    kill_script,
    machine_mark,
    thaw_script,
)
from gitmachine.machines.channel.quoting import quote, quote_text
from gitmachine_ssh import _scripts
from gitmachine_ssh._boot import terminal_command
from gitmachine_ssh._errors import BROKEN, PROVIDER, unreachable
from gitmachine_ssh._files import Files
from gitmachine_ssh._link import Link
from gitmachine_ssh._orders import piped_order, terminal_order
from gitmachine_ssh._ports import Ports
from gitmachine_ssh._process import KILLED, SSHProcess, WatchedProcess
from gitmachine_ssh._session import Session
from gitmachine_ssh._shells import Answer, Shells, new_token
from gitmachine_ssh._withoutproc import freeze_by_ps, kill_by_ps, noting, thaw_by_ps

if TYPE_CHECKING:
    from gitmachine import ExecResult, Process
    from gitmachine.machines.channel import Receiver
    from gitmachine_ssh.config import SSHConfig

__all__ = ["Place"]

SCRIPT_SECONDS = 45.0
KILL_SECONDS = 8.0
"""Less than the core's grace: whoever does not answer so long is not reached any more."""
PROBE_SECONDS = 6.0
LATE_SECONDS = 5.0
"""How long after its timeout a command may be reported before the connection is put to the test."""


class Place:
    """What one machine object holds in one event loop."""

    def __init__(self, config: SSHConfig) -> None:
        """Hold nothing yet; the first script connects."""
        self.loop = asyncio.get_running_loop()
        self.link = Link(config)
        self.where = self.link.where
        self.shells = Shells(self.link, config.shell)
        self.ports = Ports(self.link)
        self.files: Files
        self.pool: WarmPool
        self._directory = ""
        self._present = ":"
        """The command that ends a script with `GONE` when the machine is not there."""
        self._id: str | None = None
        self._mark = ""
        self._joined = 0
        self._joining = asyncio.Lock()

    def enter(self, directory: str, machine_id: str) -> None:
        """Be in a machine from now on."""
        self._directory, self._id = directory, machine_id
        self._mark = machine_mark(machine_id)
        home = posixpath.join(directory, "home")
        self.shells.preamble = (
            b"unset _gm_hello; umask 022; HOME=%b GITMACHINE_MACHINE=%b; export HOME GITMACHINE_MACHINE\n"
        ) % (quote(home), machine_id.encode())
        self._present = f"[ -f {quote_text(posixpath.join(directory, 'label'))} ] || exit {_scripts.GONE}"
        self.shells.preamble += f"{self._present}\n".encode("utf-8", "surrogateescape")
        self.pool = WarmPool(self._open, plain=self._plain, judge=self._judge, mark=self._mark)
        self.files = Files(self.link, self.shells, machine_id=machine_id, directory=directory, feed=self._feed)
        self._joined = self.link.generation

    async def run(self, script: str, operation: str, *, seconds: float = SCRIPT_SECONDS) -> Answer:
        """Run a script of ours, outside of the machine's own processes."""
        return await self.shells.run(script, seconds=seconds, operation=operation)

    def failure(self, operation: str, answer: Answer) -> MachineError:
        """Return the error for a script that failed."""
        said = (answer.stderr or answer.stdout).decode("utf-8", "replace").strip()[-500:]
        return MachineError(
            f"{self.where} could not {operation}: a script ended with {answer.status}" + (f": {said}" if said else ""),
            machine_id=self._id,
            provider=PROVIDER,
            operation=operation,
        )

    async def warm(self) -> None:
        """Have a shell ready."""
        await self.pool.warm()

    # The connection

    async def ready(self) -> None:
        """Have a connection; after a cut, end what still runs for nobody and forward the ports again.

        Raises:
            MachineUnreachableError: the host cannot be reached.
            MachineLostError: the machine is gone.
        """
        await self.link.line()
        if self.link.generation == self._joined:
            return
        async with self._joining:
            generation = self.link.generation
            if generation == self._joined:
                return
            orphans = dict(self.shells.orphans)
            kills = {pid: kill_script("", control=pid, hard=True) for pid in orphans}
            answer = await self.run(
                f"{self._present}\n{_scripts.kill_orphans_script(orphans, kills)}\n:",
                "reconnect",
            )
            if answer.status == _scripts.GONE:
                raise self._gone("reconnect")
            for pid in orphans:
                self.shells.orphans.pop(pid, None)
            await self.ports.renew()
            self._joined = generation

    async def _open(self, receiver: Receiver) -> Session:
        return await self.shells.take(receiver)

    async def _judge(self, error: ChannelLostError) -> Exception:
        """Say what the end of a shell means: a cut, the end of the machine, or only of this shell."""
        cause = error.__cause__
        if isinstance(cause, BROKEN):
            return self._cut(cause)
        try:
            verdict = await self._vanished()
        except MachineUnreachableError as problem:
            return self._cut(problem.__cause__ or problem)
        except MachineError as problem:
            return problem
        if verdict is not None:
            return verdict
        return MachineError(
            "the shell that ran the command was killed, so nobody knows how the command ended; it may have run",
            machine_id=self._id,
            provider=PROVIDER,
            operation="execute",
        )

    def _cut(self, cause: BaseException) -> MachineUnreachableError:
        error = unreachable(self.where, cause, machine_id=self._id, operation="execute")
        error.add_note("the command may have run, to its end or in part; it was not run again")
        return error

    def _gone(self, operation: str) -> MachineLostError:
        return MachineLostError(
            f"the machine {self._id} is not on {self.where} any more: its directory is gone",
            machine_id=self._id,
            provider=PROVIDER,
            operation=operation,
        )

    async def _doubted(self, error: MachineError) -> MachineError:
        """Return what to raise for an error of a command: only here it is known whether the machine was reached."""
        if type(error) not in {MachineError, MachineLostError, ChannelLostError} or error.provider == PROVIDER:
            return error
        if not self.link.stands:
            return self._cut(error)
        verdict = await self._judge(error) if isinstance(error, ChannelLostError) else await self._vanished()
        if isinstance(verdict, MachineError):
            return verdict
        return MachineError(str(error), machine_id=self._id, provider=PROVIDER, operation=error.operation)

    async def _vanished(self) -> MachineLostError | None:
        """Return the error to raise when the machine is not there any more."""
        answer = await self.run(f"{self._present}\n:", "execute")
        return self._gone("execute") if answer.status == _scripts.GONE else None

    async def judged(self, error: Exception) -> Exception:
        """Return what a missing directory means: it is missing, or the machine is."""
        return await self._vanished() or error

    # Commands

    async def execute(self, request: ExecRequest) -> ExecResult:
        """Run a command whose directory and environment are complete."""
        await self.ready()
        assert request.cwd is not None
        watch = asyncio.ensure_future(self._probe_late(request.timeout)) if request.timeout is not None else None
        try:
            result = await self.pool.execute(request, cwd=request.cwd, env=request.env)
        except MachineError as error:
            raise await self._doubted(error) from error
        finally:
            if watch is not None:
                watch.cancel()
        if result.exit_code == KILLED and (verdict := await self._vanished()) is not None:
            raise verdict
        return result

    async def _probe_late(self, timeout: float) -> None:
        """Put the connection to the test when a command is not reported after its timeout: it may be half open."""
        clock = command_clock.get() or PausableClock()
        with contextlib.suppress(TimeoutError):
            async with clock.limit(timeout + LATE_SECONDS):
                await asyncio.Event().wait()
        with contextlib.suppress(MachineError):
            await self.run(":", "execute", seconds=PROBE_SECONDS)

    async def spawn(self, request: ExecRequest) -> Process:
        """Start a command whose directory and environment are complete."""
        await self.ready()
        assert request.cwd is not None
        process = await self.pool.spawn(request, cwd=request.cwd, env=request.env)
        return WatchedProcess(process, self._vanished)

    async def _plain(self, request: ExecRequest) -> Process:
        """Start a command in a session of its own."""
        assert request.cwd is not None
        token, mark = new_token(), self.pool.new_mark()
        process = SSHProcess(token, terminal=request.terminal is not None, killing=self._kill, judge=self._judge)
        process.mark = mark
        option = self.pool.shell.mark_option if self.pool.shell is not None else ""
        marking = f"ulimit -S -{option} {mark}" if option else _either("", noting(self._directory))
        if request.terminal is None:
            process.session = await self.shells.take(process)
            live = request.open_stdin
            process.session.write(
                piped_order(token, request.command, cwd=request.cwd, env=request.env, marking=marking, live=live)
            )
        else:
            process.session = await self._terminal(process, request, token, marking)
        try:
            word = await process.going
        except ChannelLostError as error:
            raise await self._judge(error) from error
        except BaseException:
            await asyncio.shield(self._abort(process))
            raise
        if word != "go":
            await process.session.close()
            raise self._no_directory(request.cwd, word)
        return process

    async def _terminal(self, process: SSHProcess, request: ExecRequest, token: str, marking: str) -> Session:
        assert request.terminal is not None
        assert request.cwd is not None
        size, hello = request.terminal, new_token()
        env = {"TERM": "xterm-256color", **request.env}
        session = await self.link.session(
            lambda done: Session(hello, merged=True, done=done),
            command=terminal_command(self.shells.sh, hello),
            request_pty="force",
            term_type=env["TERM"],
            term_size=(size.columns, size.rows),
        )
        await self.shells.greeted(session)
        process.session = session
        session.attach(process)
        order = terminal_order(token, request.command, cwd=request.cwd, env=env, marking=marking)
        script = self.shells.preamble + order
        session.write(b"%d\n" % len(script) + script)
        return session

    async def _abort(self, process: SSHProcess) -> None:
        with contextlib.suppress(MachineError):
            await process.kill()
        await process.session.close()

    def _no_directory(self, cwd: str, word: str) -> MachineError:
        number = int(word.removeprefix("cwd") or 2)
        reason = {2: "there is no such directory", 20: "it is not a directory"}.get(number, "it may not be entered")
        return file_error(
            number,
            f"cannot run a command in {cwd!r}: {reason} in the machine",
            path=cwd,
            machine_id=self._id,
            provider=PROVIDER,
            operation="spawn",
        )

    async def _kill(self, process: SSHProcess) -> None:
        mark = process.mark if self.pool.shell is not None and self.pool.shell.mark_option else ""
        control = process.session.pid
        script = _either(
            kill_script(mark, control=control, hard=process.on_terminal),
            kill_by_ps(self._directory, str(self._id), control=control)
            + (f"kill -KILL {control}\n:\n" if process.on_terminal else ""),
        )
        await self.run(script, "kill", seconds=KILL_SECONDS)

    async def _feed(self, script: str, data: bytes) -> int:
        """Run a script with this input; return its status."""
        request = ExecRequest(shell=script, cwd="/", open_stdin=True)
        await self.ready()
        process = await self._plain(request)
        try:
            with contextlib.suppress(BrokenPipeError):
                await process.stdin.write(data)
                await process.stdin.close()
            return await process.wait()
        except BaseException:
            await asyncio.shield(self._abort(process))  # type: ignore[arg-type]  # made by `_plain`
            raise

    # All processes

    async def pause(self) -> None:
        """Stop everything, and write down what was stopped."""
        await self.ready()
        self.pool.pause()
        try:
            record = posixpath.join(self._directory, "paused")
            boot = quote_text(f"{record}.boot")
            freeze = _either(freeze_script(self._mark, record), freeze_by_ps(self._directory, str(self._id), record))
            answer = await self.run(f"cat /proc/sys/kernel/random/boot_id >{boot} 2>/dev/null\n{freeze}", "pause")
            if answer.status != 0:
                raise self.failure("pause", answer)
        except BaseException:
            self.pool.resume()
            raise

    async def resume(self) -> None:
        """Continue what was stopped."""
        await self.ready()
        record = posixpath.join(self._directory, "paused")
        thaw = _either(thaw_script(record), thaw_by_ps(self._directory, str(self._id), record))
        answer = await self.run(thaw, "resume")
        if answer.status != 0:
            raise self.failure("resume", answer)
        self.pool.resume()

    def _kill_all(self) -> str:
        shell = self.pool.shell
        if shell is None or not shell.mark_option:
            return _either(kill_script(self._mark), kill_by_ps(self._directory, str(self._id)))
        # One look at all at once, which is much cheaper than one at each, and mostly enough; the same look afterwards.
        return (
            "_gm_turn=0\n"
            f"while grep -qs '^Max file locks *{self._mark}' /proc/[0-9]*/limits && [ $_gm_turn -lt 20 ]; do\n"
            f"_gm_turn=$((_gm_turn + 1))\n{kill_script(self._mark)}\ndone\n:\n"
        )

    async def kill_everything(self) -> None:
        """Kill everything; the machine stays."""
        await self.ready()
        answer = await self.run(self._kill_all(), "terminate processes")
        if answer.status != 0:
            raise self.failure("terminate processes", answer)

    async def stop(self, parent: str) -> None:
        """Kill everything and remove the directory."""
        await self.ports.close()
        with contextlib.suppress(MachineLostError):  # gone already: what is left of it is removed
            await self.ready()
        assert self._id is not None
        script = f"( {self._kill_all()} )\n( {_scripts.remove_script(parent, self._id)} )"
        answer = await self.run(script, "stop", seconds=100)
        if answer.status != 0:
            raise self.failure("stop", answer)

    # End

    def abandon(self) -> None:
        """Let go from another event loop, where nothing can be awaited any more."""
        with contextlib.suppress(RuntimeError, *BROKEN):  # the loop is closed, or soon will be
            self.link.abort()

    async def close(self) -> None:
        """Close shells and connections; what runs in the machine goes on."""
        with contextlib.suppress(InvalidStateError):
            await self.ports.close()
        if self._id is not None:
            await self.pool.close()
        await self.shells.close()
        await self.link.close()


def _either(with_proc: str, without: str) -> str:
    """Return a script that does one thing on hosts with /proc, another on those without."""
    return f"if [ -r /proc/self/stat ]; then\n:\n{with_proc}\nelse\n{without}\nfi"
