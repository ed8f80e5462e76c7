"""One running container: commands by exec, their ends, and what a silence means."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import aiodocker
import attrs

from gitmachine import ExecRequest, MachineError, MachineUnreachableError
from gitmachine.execution import run_process
from gitmachine.machines.channel import kill_script, machine_mark, new_mark
from gitmachine_local_docker._errors import FOREIGN, is_missing, lost, machine_errors, out_of_reach
from gitmachine_local_docker._exec import DockerProcess, ExecSpec, start_process
from gitmachine_local_docker._gate import HostGate
from gitmachine_local_docker._starts import Starts

if TYPE_CHECKING:
    from gitmachine import ExecResult
    from gitmachine.machines.channel import WarmPool
    from gitmachine_local_docker._engine import Engine

__all__ = ["ROOT", "Container"]

ROOT = "0"
KILLED = 137
TERMINATED = 143
LINGER_SECONDS = 10.0
POLL_SECONDS = 0.05

# What hides from its mark has to leave its parents, too, and becomes a child of process 1: like the container's main
# process, which is the oldest of them. $s holds all of stat, whatever the name in it is.
SWEEP = """\
about() {
  s= x=; while IFS= read -r x || [ -n "$x" ]; do s="$s$x " x=; done <"/proc/$1/stat" || return 1
  set -- ${s##*) }; parent=$2; start=${20}
}
main= since=
for d in /proc/[0-9]*; do
  p=${d#/proc/}; about "$p" 2>/dev/null || continue
  if [ "$parent" = 1 ] && { [ -z "$main" ] || [ "$start" -lt "$since" ]; }; then main=$p since=$start; fi
done
set_=" "
new=1
while [ -n "$new" ]; do
  new=
  for d in /proc/[0-9]*; do
    p=${d#/proc/}
    case "$set_$main $$ 1 " in *" $p "*) continue ;; esac
    about "$p" 2>/dev/null || continue
    case " 1$set_" in *" $parent "*) kill -STOP "$p" 2>/dev/null; set_="$set_$p " new=1 ;; esac
  done
done
[ "$set_" = " " ] || kill -KILL $set_ 2>/dev/null
"""
KILL_SECONDS = 30.0
SHELL_SECONDS = 2.0
"""How long a warm shell may take to kill what is left: one that takes longer was stopped, say."""


_kills: set[asyncio.Task[Any]] = set()
"""Kills that go on after their caller was cancelled: somebody must hold them."""


def _forget(task: asyncio.Task[Any]) -> None:
    _kills.discard(task)
    if not task.cancelled():
        task.exception()  # whoever wanted the command has an error of his own


def _is_done(task: asyncio.Task[ExecResult]) -> bool:
    """Whether a script of ours ran to its end."""
    if not task.done() or task.cancelled() or task.exception() is not None:
        return False
    return task.result().stdout_bytes == b"done\n"


class Container:
    """Runs commands in a container by the engine's exec.

    Attributes:
        id: the engine's id of it.
        engine: where it is.
        mark: what the processes of its commands are known by, whichever client started them.
        starts: what is being started in it.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        self.engine = engine
        self.id = container
        self.mark = machine_mark(container)
        self.starts = Starts(HostGate(container))
        self.oom_kills = 0
        """How often the kernel had killed for want of memory when it was last asked."""
        self._oom_at = -1.0

    async def spawn(self, spec: ExecSpec, operation: str = "spawn") -> DockerProcess:
        """Start a command; when it raises, or is cancelled, none runs.

        Raises:
            MachineLostError: the container, or the engine, is gone.
            MachineFileError: there is no such working directory.
        """
        mark = new_mark(self.mark)
        try:
            return await self._start(attrs.evolve(spec, mark=mark), operation)
        except (asyncio.CancelledError, MachineUnreachableError) as error:
            # It may have been started in this very moment.
            killing = asyncio.ensure_future(self.kill(mark))
            _kills.add(killing)
            killing.add_done_callback(_forget)
            patience = LINGER_SECONDS if isinstance(error, MachineUnreachableError) else KILL_SECONDS
            await asyncio.wait([killing], timeout=patience)
            killing.cancel()
            raise

    async def _start(self, spec: ExecSpec, operation: str) -> DockerProcess:
        with machine_errors(self.engine.dialer, self.id, operation):
            async with self.starts.one():
                return await start_process(
                    self.engine, self.id, spec, kill=lambda: self.kill(spec.mark), exit_code=self.exit_code
                )

    async def run(
        self,
        script: str,
        *words: str,
        timeout: float = 60.0,
    ) -> ExecResult:
        """Run a script of ours to its end, as root."""
        argv = ("sh", "-c", script, "sh", *words)
        spec = ExecSpec(argv=argv, cwd="/", env={}, user=ROOT)
        return await run_process(await self.spawn(spec, "execute"), ExecRequest(argv=argv, timeout=timeout))

    async def kill(self, mark: str) -> None:
        """Kill every process that carries a mark; by root, since they may belong to anybody."""
        await self._finish(("sh", "-c", f"{kill_script(mark)}\necho done", "sh"), "kill")

    async def _finish(self, argv: tuple[str, ...], operation: str, *, marked: bool = True) -> None:
        """Run a command until it says done."""
        spec = ExecSpec(argv=argv, cwd="/", env={}, user=ROOT, mark=new_mark(self.mark) if marked else "")
        process = await self._start(spec, operation)
        try:
            async with asyncio.timeout(KILL_SECONDS):
                # Its own end may be reported late, when the engine waits for what was killed.
                async for data in process.stdout:
                    if b"done" in data:
                        return
        finally:
            process.discard()

    async def terminate(self, pool: WarmPool | None = None, *, able: bool = False) -> None:
        """Kill every process but the container's first and the shells that are waiting for commands.

        Args:
            pool: the shells; those that somebody stopped go on.
            able: whether they are root's, so that one of them can do it; another exec costs as much as all the rest.
        """
        script = f"{kill_script(self.mark)}\n{SWEEP}\necho done"
        asking: asyncio.Task[ExecResult] | None = None
        if pool is not None and able:
            request = ExecRequest(argv=("sh", "-c", script, "sh"), timeout=KILL_SECONDS)
            asking = asyncio.ensure_future(pool.execute(request, cwd="/", env={}))
            _kills.add(asking)
            asking.add_done_callback(_forget)
            await asyncio.wait([asking], timeout=SHELL_SECONDS)
            if _is_done(asking):
                return
        # Whatever became of the shells, root has more. Its process carries no mark, by which the other would kill it.
        wake = pool.wake_script if pool is not None else ""
        await self._finish(("sh", "-c", f"{script}\n{wake}", "sh"), "terminate_processes", marked=False)
        if asking is not None:  # it goes on now, and would kill what comes after us
            await asyncio.wait([asking], timeout=LINGER_SECONDS)

    async def ran_out_of_memory(self, since: float) -> bool:
        """Whether the kernel killed a process of the container for want of memory since then (monotonic seconds)."""
        try:
            count = oom_kills((await self.run(OOM_SCRIPT, timeout=LINGER_SECONDS)).stdout)
        except MachineError:
            return False
        if count > self.oom_kills:
            self.oom_kills, self._oom_at = count, time.monotonic()
        return self._oom_at >= since

    async def exit_code(self, exec_id: str) -> int:
        """Return the exit code of a command whose streams have ended.

        Raises:
            MachineLostError: they ended because the container or the engine did, or the connection.
        """
        deadline = asyncio.get_running_loop().time() + LINGER_SECONDS
        with machine_errors(self.engine.dialer, self.id, "execute"):
            while True:
                try:
                    known = await self.engine.inspect_exec(exec_id)
                except aiodocker.DockerError as error:
                    if is_missing(error):
                        raise await self.death("execute") from error
                    raise
                code = known.get("ExitCode")
                if not known.get("Running") and code is not None:
                    break
                if asyncio.get_running_loop().time() > deadline:
                    raise await self.death("execute", otherwise="the connection to the command was cut")
                await asyncio.sleep(POLL_SECONDS)
        if code == KILLED and not await self.is_alive():
            raise await self.death("execute")
        return int(code)

    async def is_paused(self) -> bool:
        """Whether it stands still.

        Raises:
            MachineLostError: it does not run at all.
        """
        with machine_errors(self.engine.dialer, self.id, "inspect"):
            state = (await self.engine.inspect(self.id))["State"]
        if not state.get("Running"):
            raise await self.death("inspect")
        return bool(state.get("Paused"))

    async def is_alive(self) -> bool:
        """Whether a process can be started in it: the engine's own idea of its state may be a moment old."""
        async with self.starts.one():
            return await self._starts_something()

    async def _starts_something(self) -> bool:
        try:
            exec_id = await self.engine.create_exec(
                self.id, ["sh", "-c", ":"], env=[], user=ROOT, stdin=False, tty=False
            )
            stream = await self.engine.start_exec(exec_id, tty=False)
        except FOREIGN as error:
            return isinstance(error, aiodocker.DockerError) and error.status == 409 and "is paused" in error.message
        ended = asyncio.Event()
        said: list[bytes] = []
        stream.deliver(lambda _, data: said.append(data), ended.set)
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await ended.wait()
            return (await self.engine.inspect_exec(exec_id)).get("ExitCode") == 0
        except FOREIGN:
            return False
        finally:
            stream.close()

    async def death(self, operation: str, otherwise: str | None = None) -> MachineError:
        """Return the error that says what became of the container; `otherwise` is for one that seems to be well."""
        try:
            return lost(self._obituary(await self._final_state(), otherwise), self.id, operation)
        except FOREIGN as error:
            if is_missing(error):
                return lost("somebody removed it", self.id, operation)
            return out_of_reach(error, self.engine.dialer, self.id, operation)

    async def _final_state(self) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + 2.0
        while True:
            known = await self.engine.inspect(self.id)
            if not known["State"].get("Running") or asyncio.get_running_loop().time() > deadline:
                return known
            await asyncio.sleep(POLL_SECONDS)

    @staticmethod
    def _obituary(known: dict[str, Any], otherwise: str | None) -> str:
        state = known["State"]
        if state.get("Running"):
            return otherwise or "its processes were ended; it was restarted, say"
        code = state.get("ExitCode")
        if state.get("OOMKilled"):
            limit = known["HostConfig"].get("Memory") or 0
            return f"it ran out of memory (limit {limit >> 20}m): give it more `memory`"
        if code == KILLED:
            return "somebody killed it, or the engine was restarted"
        if code == TERMINATED:
            return "somebody stopped it, or the engine was restarted"
        return f"it ended by itself with exit code {code}" + (f": {state['Error']}" if state.get("Error") else "")


_OOM = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
OOM_SCRIPT = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null; :"
"""Prints how often the kernel killed for want of memory: cgroup v2 and v1."""


def oom_kills(text: str) -> int:
    """Return the number in what `OOM_SCRIPT` printed."""
    match = _OOM.search(text)
    return int(match[1]) if match else 0
