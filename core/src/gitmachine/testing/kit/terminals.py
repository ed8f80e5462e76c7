"""Terminals: a command that has one behaves as at a desk. Needs POSIX sh; sizes are looked at where there is `stty`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gitmachine.execution import ExecRequest, TerminalSize
from gitmachine.machine import Capability
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import NotApplicable, behaviour, check
from gitmachine.testing.kit.capabilities import read_all, refused
from gitmachine.testing.kit.stage import NAP, Stage, script_request, shown

if TYPE_CHECKING:
    from gitmachine.execution import Process

__all__ = ["TerminalBehaviours"]

_SIZE = TerminalSize(columns=91, rows=33)
_PTY = (Capability.SPAWN, Capability.PTY)


class TerminalBehaviours(KitBase):
    """Editors, debuggers and agents with a face need a real terminal, not two pipes that are called one."""

    @behaviour("can-open-terminal", "a command runs on a terminal if declared, else UnsupportedOperation")
    async def test_can_open_terminal(self, stage: Stage) -> None:
        """A terminal that is not the controlling one has no /dev/tty, no job control and no Ctrl-C."""
        script = 'test -t 0 && test -t 1 && test -t 2 && echo "on $TERM $V" >/dev/tty; echo err >&2; exit 43'
        request = script_request(script, terminal=_SIZE, env={"V": "a  b"})
        if Capability.PTY not in stage.raw.capabilities:
            await refused(stage, "terminal", lambda: stage.raw.spawn(request))
            return
        process = await stage.raw.spawn(request)
        errors = await stage.within("the errors of a command on a terminal end", read_all(process.stderr))
        output = await stage.within("the output of a command on a terminal ends", read_all(process.stdout))
        expected = b"on xterm-256color a  b\r\nerr\r\n"
        check(output == expected, f"a command on a terminal printed {shown(output)}, expected {expected!r}")
        check(errors == b"", f"a terminal has one stream, but standard error had {shown(errors)}")
        code = await stage.within("a command on a terminal ends", process.wait())
        check(code == 43, f"a command on a terminal exited with {code}, not 43")
        plain = await stage.sh("test -t 1 || echo none")
        check(plain.stdout == "none\n", "a command without a terminal had one")

    @behaviour("terminal-program", "a program that does not exist is exit code 127 on a terminal too", needs=_PTY)
    async def test_terminal_program(self, stage: Stage) -> None:
        """The way to a terminal is often a second one, through a shell that quotes once too often."""
        words = ["printf", "%s|", "two words", "$HOME", "it's", ""]
        process = await stage.raw.spawn(ExecRequest(argv=words, terminal=_SIZE))
        output = await stage.within("a program's output on a terminal ends", read_all(process.stdout))
        check(output == b"two words|$HOME|it's||", f"the arguments arrived as {shown(output)}")
        process = await stage.raw.spawn(ExecRequest(argv=["no-such-program-here"], terminal=_SIZE))
        await stage.within("the output of a missing program ends", read_all(process.stdout))
        code = await stage.within("a missing program ends", process.wait())
        check(code == 127, f"a missing program on a terminal exited with {code}, not 127")

    @behaviour("terminal-size", "a terminal has the size asked for, and resize tells its program", needs=_PTY)
    async def test_terminal_size(self, stage: Stage) -> None:
        """80 x 24 for ever, or the new size without the signal: full-screen programs draw nonsense."""
        if (await stage.sh("command -v stty")).exit_code != 0:
            raise NotApplicable("there is no `stty` in the machine to ask for a terminal's size")
        script = f"trap 'stty size' WINCH; stty size; echo ready; while :; do {NAP}; done"
        process = await stage.raw.spawn(script_request(script, terminal=_SIZE))
        try:
            seen = await _until(stage, process, b"ready\r\n")
            check(seen == b"33 91\r\nready\r\n", f"asked for 33 rows of 91, `stty size` printed {shown(seen)}")
            await process.resize(TerminalSize(columns=140, rows=50))
            seen = await _until(stage, process, b"\n")
            check(seen == b"50 140\r\n", f"resized to 50 rows of 140, the program printed {shown(seen)}")
        finally:
            await process.kill()

    @behaviour("terminal-keys", "a terminal echoes, and its Ctrl-C and Ctrl-D do what they do at a desk", needs=_PTY)
    async def test_terminal_keys(self, stage: Stage) -> None:
        """Ctrl-C that kills the connection, or the shell, or nobody."""
        script = f"""
        echo ready; read -r line; echo "got $line"
        cat; echo "no more"
        trap 'echo caught; exit 7' INT; echo waiting
        while :; do {NAP}; done
        """
        process = await stage.raw.spawn(script_request(script, terminal=_SIZE))
        try:
            await _until(stage, process, b"ready\r\n")
            await process.stdin.write(b"hello\n")
            seen = await _until(stage, process, b"got hello\r\n")
            check(seen == b"hello\r\ngot hello\r\n", f"typed was 'hello', a terminal that echoes showed {shown(seen)}")
            await process.stdin.write(b"\x04")
            await _until(stage, process, b"no more\r\nwaiting\r\n")
            await process.stdin.write(b"\x03")
            rest = await stage.within("a program on a terminal is interrupted", read_all(process.stdout))
            check(rest.endswith(b"caught\r\n"), f"after Ctrl-C the program printed {shown(rest)}")
            code = await stage.within("an interrupted program ends", process.wait())
            check(code == 7, f"a program that caught Ctrl-C exited with {code}, not 7")
        finally:
            await process.kill()

    @behaviour("terminal-complete", "a terminal delivers all output, however late it is read", needs=_PTY)
    async def test_terminal_complete(self, stage: Stage) -> None:
        """The end of the last screen is lost where the end of the program overtakes it."""
        count = 1 << 20
        process = await stage.raw.spawn(
            script_request('head -c "$N" /dev/zero; echo end', env={"N": str(count)}, terminal=_SIZE)
        )
        await asyncio.sleep(self.quiet_seconds)
        output = await stage.within("the output on a terminal ends", read_all(process.stdout))
        check(output == bytes(count) + b"end\r\n", f"{count + 5} bytes were written, {len(output)} arrived")
        check(await stage.within("its command ends", process.wait()) == 0, "it did not exit with 0")

    @behaviour("terminal-kill", "kill ends a command on a terminal with its children", needs=_PTY)
    async def test_terminal_kill(self, stage: Stage) -> None:
        """What ignores the hangup of its terminal is left running."""
        script = "trap '' HUP; sh -c 'while :; do echo x >> beat; sleep 0.05 || sleep 1; done' & echo on; wait"
        process = await stage.raw.spawn(script_request(script, terminal=_SIZE))
        await stage.grows("beat")
        await process.kill()
        code = await stage.within("a killed command on a terminal is gone", process.wait())
        check(code == 137, f"a killed command on a terminal exited with {code}, not 137")
        await stage.still("beat", "a child goes on after its command on a terminal was killed")
        await stage.within("the output of a killed command on a terminal ends", read_all(process.stdout))


async def _until(stage: Stage, process: Process, wanted: bytes) -> bytes:
    """Read until the output ends so."""
    seen = b""
    stream: Any = process.stdout
    while not seen.endswith(wanted):
        try:
            seen += await stage.within(f"a terminal shows {wanted!r} after {shown(seen)}", anext(stream))
        except StopAsyncIteration:
            check(False, f"a terminal was to show {wanted!r} and ended after {shown(seen)}")
    return seen
