"""Timeouts and cancellations: the whole process tree ends, what was printed is kept, the machine goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine.errors import CommandTimeoutError
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, script_request, shown

if TYPE_CHECKING:
    from gitmachine.execution import ExecResult

__all__ = ["TimeoutBehaviours"]

_BEAT = "while :; do echo x >> beat; sleep 0.05 || sleep 1; done"
_ATTEMPTS_SECONDS = (0.5, 2.0, 8.0)
"""Timeouts to try, one after another, until one gave the command time to get going."""


class TimeoutBehaviours(KitBase):
    """What a timeout does, and a cancellation."""

    @behaviour("timeout", "a timeout ends the command and raises CommandTimeoutError")
    async def test_timeout(self, stage: Stage) -> None:
        """Some tools ignore the timeout, some take 60 seconds where none was given, some only stop waiting."""
        began = asyncio.get_running_loop().time()
        result = await _time_out(stage, await_file("never"), 0.3)
        took = asyncio.get_running_loop().time() - began
        check(result.timed_out, "the result of a command that was timed out does not say so")
        check(took < stage.patience, f"a timeout of 0.3 s took {took:.1f} s")

    @behaviour("timeout-output", "the output up to a timeout is kept")
    async def test_timeout_output(self, stage: Stage) -> None:
        """The most wanted thing about a command that hangs is what it said last; most tools throw it away."""
        for seconds in _ATTEMPTS_SECONDS:
            result = await _time_out(stage, f"echo out; echo err >&2; echo x > started; {await_file('never')}", seconds)
            if await stage.size("started") > 0:
                break
        check(result.stdout == "out\n", f"the output before the timeout is {shown(result.stdout)}, not 'out'")
        check(result.stderr == "err\n", f"the errors before the timeout are {shown(result.stderr)}, not 'err'")

    @behaviour("timeout-children", "a timeout ends children and grandchildren")
    async def test_timeout_children(self, stage: Stage) -> None:
        """Killing the shell leaves what it started: compilers, test runners, servers, all eating the machine."""
        await _beat_until_timeout(stage, f"( sh -c '{_BEAT}' & wait ) & wait")
        await stage.still("beat", "a child goes on after its command was timed out")

    @behaviour("timeout-setsid", "a timeout ends children that called setsid")
    async def test_timeout_setsid(self, stage: Stage) -> None:
        """A kill of the process group does not reach them; browsers and daemons do this as a matter of course."""
        await _beat_until_timeout(stage, f"setsid sh -c '{_BEAT}' & {await_file('never')}")
        await stage.still("beat", "a child that called setsid goes on after its command was timed out")

    @behaviour("timeout-clean-env", "a timeout ends children with a cleared environment whose parents are gone")
    async def test_timeout_clean_env(self, stage: Stage) -> None:
        """A marker in the environment is taken off by `env -i`, as sudo and build tools do."""
        hidden = f"""( env -i PATH="$PATH" sh -c '{_BEAT}' & )"""
        await _beat_until_timeout(stage, f"{hidden}; {await_file('never')}")
        await stage.still("beat", "a child with a cleared environment goes on after its command was timed out")

    @behaviour("timeout-stubborn", "a timeout ends commands that ignore signals")
    async def test_timeout_stubborn(self, stage: Stage) -> None:
        """SIGTERM is a request; what ignores it goes on for ever."""
        stubborn = f"trap '' TERM HUP INT QUIT; echo x > started; {_BEAT}"
        await _beat_until_timeout(stage, stubborn)
        await stage.still("beat", "a command that ignores signals goes on after its timeout")

    @behaviour("timeout-usable", "after a timeout the machine goes on as before")
    async def test_timeout_usable(self, stage: Stage) -> None:
        """Sandboxes with one shell for everything are broken after the first timeout."""
        await stage.good("echo kept > kept")
        await _time_out(stage, await_file("never"), 0.3)
        result = await stage.sh("cat kept; echo err >&2; exit 4")
        check(
            (result.exit_code, result.stdout, result.stderr) == (4, "kept\n", "err\n"),
            f"after a timeout a command gave {result.exit_code} {result.stdout!r} {result.stderr!r}",
        )

    @behaviour("timeout-others", "a timeout of one command leaves the others and background children alone")
    async def test_timeout_others(self, stage: Stage) -> None:
        """A container that is restarted to get rid of one command loses everything else in it."""
        await stage.good(f"( {_BEAT} ) >/dev/null 2>&1 & echo started")
        async with stage.running(stage.sh(f"echo x > other; {await_file('go')}; echo done")) as other:
            await stage.grows("beat")
            await stage.until("another command starts", lambda: _exists(stage, "other"))
            await _time_out(stage, await_file("never"), 0.3)
            await stage.signal("go")
            result = await stage.within("another command ends", other)
        check(result.stdout == "done\n", f"another command was disturbed by a timeout: {result.stdout!r}")
        await stage.grows("beat")

    @behaviour("timeout-own-code", "a command's own exit code 124 or 137 is not taken for a timeout")
    async def test_timeout_own_code(self, stage: Stage) -> None:
        """`timeout(1)` around the command reports 124 by itself, and so may the command."""
        for code in (124, 137, 143):
            try:
                result = await stage.machine.execute(script_request(f"exit {code}", timeout=stage.patience + 1))
            except CommandTimeoutError as error:
                raise ConformanceFailure(f"a command that exited with {code} in time was called timed out") from error
            check(result.exit_code == code and not result.timed_out, f"exit code {code} became {result.exit_code}")

    @behaviour("cancel", "a cancelled command is ended with its whole process tree")
    async def test_cancel(self, stage: Stage) -> None:
        """Most clients only stop waiting; the command goes on without anybody knowing."""
        script = f"sh -c '{_BEAT}' & setsid sh -c '{_BEAT}' & {await_file('never')}"
        task = asyncio.ensure_future(stage.machine.execute(script_request(script)))
        try:
            await stage.grows("beat")
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=stage.patience)
        check(task.done(), "a cancelled command did not return")
        check(task.cancelled(), f"a cancelled command ended with {task!r}, not with its cancellation")
        await stage.still("beat", "a command goes on after it was cancelled")
        result = await stage.sh("echo usable")
        check(result.stdout == "usable\n", "after a cancellation the machine is not usable")


async def _exists(stage: Stage, name: str) -> bool:
    return await stage.size(name) > 0


async def _time_out(stage: Stage, script: str, seconds: float) -> ExecResult:
    try:
        result = await stage.machine.execute(script_request(script, timeout=seconds))
    except CommandTimeoutError as error:
        return error.result
    raise ConformanceFailure(f"a command that never ends was not ended by its timeout; it gave {result}")


async def _beat_until_timeout(stage: Stage, script: str) -> None:
    """Run a script until its timeout, long enough for its child to have begun."""
    for seconds in _ATTEMPTS_SECONDS:
        await _time_out(stage, script, seconds)
        if await stage.size("beat") > 0:
            return
    raise ConformanceFailure(f"a child did not start within {_ATTEMPTS_SECONDS[-1]:g} s: {shown(script)}")
