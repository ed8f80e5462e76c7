"""Pause and resume: everything stands still, and goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import time

from gitmachine.machine import Capability, MachineState
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import NAP, POLL_SECONDS, Stage, await_file, script_request, shown

__all__ = ["PauseBehaviours"]

_TICKS = f"while :; do echo tick; {NAP}; done"
_TIMEOUTS_SECONDS = (4.0, 16.0)
"""Timeouts to try, one after another, until the machine is fast enough for one."""


class PauseBehaviours(KitBase):
    """What a pause does to a machine."""

    @behaviour("pause-freezes", "nothing runs while the machine is paused", needs=(Capability.PAUSE,))
    async def test_pause_freezes(self, stage: Stage) -> None:
        """Two tools only set a flag, or drop their handle, while the machine goes on and costs money."""
        ticks: list[str] = []
        request = script_request(_TICKS, on_stdout=ticks.append)
        async with stage.running(stage.machine.execute(request)):
            await stage.until("output arrives", lambda: _more(ticks, 0))
            await stage.machine.pause()
            check(stage.machine.state is MachineState.PAUSED, f"after pause the state is {stage.machine.state}")
            await _quiet(stage, ticks)
            seen = len(ticks)
            await stage.machine.resume()
            check(stage.machine.state is MachineState.RUNNING, f"after resume the state is {stage.machine.state}")
            await stage.until("output goes on after resume", lambda: _more(ticks, seen))

    @behaviour("pause-continues", "a command survives a pause with all its output", needs=(Capability.PAUSE,))
    async def test_pause_continues(self, stage: Stage) -> None:
        """Hosted sandboxes have lost the processes, the output or, at the second pause, the files."""
        script = f"echo before; echo started > started; {await_file('go')}; echo after; echo kept > kept"
        async with stage.running(stage.sh(script)) as command:
            await stage.until("a command starts", lambda: _exists(stage, "started"))
            await stage.machine.pause()
            await stage.machine.resume()
            await stage.signal("go")
            result = await stage.within("a command ends after resume", command)
        check(
            (result.exit_code, result.stdout) == (0, "before\nafter\n"),
            f"expected 'before' and 'after', and exit code 0, not {shown(result.stdout)} and {result.exit_code}",
        )
        check(await stage.size("kept") > 0, "what the command wrote after resume is not there")

    @behaviour("pause-again", "a machine can be paused again and again, and keeps its files", needs=(Capability.PAUSE,))
    async def test_pause_again(self, stage: Stage) -> None:
        """A well-known hosted sandbox lost every file written after the first pause when it was paused again."""
        for number in range(3):
            await stage.good('echo "$1" > "file-$1"', str(number))
            await stage.machine.pause()
            await stage.machine.pause()
            await stage.machine.resume()
            await stage.machine.resume()
        text = await stage.good("cat file-0 file-1 file-2")
        check(text == "0\n1\n2\n", f"expected the files of three pauses, not {shown(text)}")

    @behaviour("pause-clock", "the time a machine is paused does not count for a timeout", needs=(Capability.PAUSE,))
    async def test_pause_clock(self, stage: Stage) -> None:
        """A command that was frozen for an hour would be killed in the moment it is continued."""
        for seconds in _TIMEOUTS_SECONDS:
            ran, error = await _pause_past_timeout(stage, seconds)
            if error is None:
                return
            if ran < seconds:
                raise ConformanceFailure(
                    f"a command with a timeout of {seconds:g} s, most of it paused (it ran for {ran:.1f} s), "
                    f"ended with {error!r}"
                )
        raise ConformanceFailure(f"a command was not started, paused and ended within {_TIMEOUTS_SECONDS[-1]:g} s")

    @behaviour(
        "pause-stopped-stay", "resume does not continue what was stopped before the pause", needs=(Capability.PAUSE,)
    )
    async def test_pause_stopped_stay(self, stage: Stage) -> None:
        """A debugger or a job control shell stops processes for a reason; a blanket SIGCONT undoes that."""
        script = 'echo $$ > pid; while :; do echo tick >> ticks; "$1" 0.05 || "$1" 1; done'
        await stage.good('sh -c "$1" sh sleep >/dev/null 2>&1 &', script)
        await stage.grows("ticks")
        await stage.good('kill -STOP "$(cat pid)"')
        await _settled(stage)
        await stage.machine.pause()
        await stage.machine.resume()
        await stage.still("ticks", "a process that was stopped before the pause runs after resume")
        await stage.good('kill -CONT "$(cat pid)"')
        await stage.grows("ticks")


async def _pause_past_timeout(stage: Stage, seconds: float) -> tuple[float, BaseException | None]:
    """Run a command with a timeout, most of it paused; returns how long it ran and what it raised."""
    script = f"echo started > started; {await_file('go')}; echo done"
    await stage.good("rm -f started go")
    began = time.monotonic()
    async with stage.running(stage.sh(script, timeout=seconds)) as command:
        await stage.until("a command starts", lambda: _exists(stage, "started"))
        await stage.machine.pause()
        paused = time.monotonic()
        await asyncio.sleep(max(0.0, began + seconds + 0.3 - paused))
        resumed = time.monotonic()
        await stage.machine.resume()
        await stage.signal("go")
        await asyncio.wait([command], timeout=stage.patience)
        ran = paused - began + time.monotonic() - resumed
        if not command.done():
            raise ConformanceFailure(f"a command with a timeout of {seconds:g} s, most of it paused, does not end")
        return ran, command.exception()


async def _more(ticks: list[str], count: int) -> bool:
    return len(ticks) > count


async def _exists(stage: Stage, name: str) -> bool:
    return await stage.size(name) > 0


async def _quiet(stage: Stage, ticks: list[str]) -> None:
    """Wait until no output arrives any more: some may still have been under way."""
    deadline = time.monotonic() + stage.patience
    last, since = len(ticks), time.monotonic()
    while time.monotonic() - since < stage.kit.quiet_seconds:
        await asyncio.sleep(POLL_SECONDS)
        if len(ticks) != last:
            last, since = len(ticks), time.monotonic()
        if time.monotonic() > deadline:
            raise ConformanceFailure("a command goes on writing while its machine is paused")


async def _settled(stage: Stage) -> None:
    """Wait until a stopped process has written for the last time."""
    last, since = await stage.size("ticks"), time.monotonic()
    while time.monotonic() - since < stage.kit.quiet_seconds:
        await asyncio.sleep(POLL_SECONDS)
        if (size := await stage.size("ticks")) != last:
            last, since = size, time.monotonic()
