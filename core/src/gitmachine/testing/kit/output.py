"""Output: every byte, in order, in time, in bounded memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.machine import Capability
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, NotApplicable, behaviour, check
from gitmachine.testing.kit.stage import NAP, Stage, await_file, shown

if TYPE_CHECKING:
    from gitmachine.execution import ExecResult

__all__ = ["OutputBehaviours"]

_ALL_BYTES = "".join(f"\\{number:03o}" for number in range(256))
_IMITATIONS = (
    "0\n",
    "exit 0\n",
    "\x1b]0;end\x07",
    '{"exitCode":0,"stdout":"","stderr":""}\n',
    "__EXIT_CODE__:0\n",
    "EXITCODESTART0EXITCODEEND\n",
    "\x00\x00\x00\x00\x00\x00\x00\x00",
    "\x01\x00\x00\x00\x00\x00\x00\x04done",
    "HTTP/1.1 200 OK\r\n\r\n",
    "\x04\x03\x1a",
    "# $ > >>> \n",
)
"""What ends a command, frames its output or prompts for the next one, in this tool or that."""

_GROWTH_BYTES = 48 << 20


class OutputBehaviours(KitBase):
    """What becomes of a command's output."""

    @behaviour("streams", "standard output and standard error are kept apart")
    async def test_streams(self, stage: Stage) -> None:
        """Two well-known sandboxes join them into one text; with a terminal in between there is only one."""
        result = await stage.sh("echo out; echo err >&2; echo out2; echo err2 >&2")
        check(result.stdout == "out\nout2\n", f"standard output is {result.stdout!r}")
        check(result.stderr == "err\nerr2\n", f"standard error is {result.stderr!r}")

    @behaviour("bytes", "output is byte-exact: NUL, CR, bytes that are not UTF-8, with and without a final newline")
    async def test_bytes(self, stage: Stage) -> None:
        """Text-only tools replace bytes, translate line ends, and strip or add the last newline."""
        result = await stage.sh(f"printf '{_ALL_BYTES}'; printf '{_ALL_BYTES}' >&2")
        wanted = bytes(range(256))
        check(result.stdout_bytes == wanted, f"256 different bytes arrived as {shown(result.stdout_bytes)}")
        check(result.stderr_bytes == wanted, f"256 different bytes arrived on stderr as {shown(result.stderr_bytes)}")
        for text in ("", "x", "x\n", "\n", "x\n\n\n", "\r\n", " x "):
            result = await stage.run(["printf", "%s", text])
            check(result.stdout == text, f"the output {text!r} arrived as {result.stdout!r}")

    @behaviour("order", "a long output arrives in order and complete")
    async def test_order(self, stage: Stage) -> None:
        """After a reconnect, or at the end of large outputs, pieces have been lost or swapped."""
        pieces: list[bytes] = []
        script = 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done'
        result = await stage.sh(script, on_stdout_bytes=pieces.append)
        wanted = "".join(f"line {number}\n" for number in range(20_000)).encode()
        check(result.stdout_bytes == wanted, f"20000 lines arrived as {shown(result.stdout_bytes)}")
        check(b"".join(pieces) == wanted, f"20000 lines arrived in callbacks as {shown(b''.join(pieces))}")

    @behaviour("live-output", "callbacks are called as output arrives, not at the end")
    async def test_live_output(self, stage: Stage) -> None:
        """In the Go GitMachine the callback is called once, when all is over; polling tools are seconds late."""
        arrived = asyncio.Event()
        script = f"echo ready; {await_file('go')}; echo done"
        async with stage.running(stage.sh(script, on_stdout=lambda _: arrived.set())) as command:
            await stage.within("output arrives while the command is running", arrived.wait())
            check(not command.done(), "the command was over before its output arrived")
            await stage.signal("go")
            result = await command
        check(result.stdout == "ready\ndone\n", f"the output was {result.stdout!r}")

    @behaviour("live-errors", "callbacks for standard error are called as it arrives")
    async def test_live_errors(self, stage: Stage) -> None:
        """Progress is written to standard error, and it is the first to be buffered."""
        arrived = asyncio.Event()
        script = f"echo ready >&2; {await_file('go')}"
        async with stage.running(stage.sh(script, on_stderr=lambda _: arrived.set())) as command:
            await stage.within("standard error arrives while the command is running", arrived.wait())
            await stage.signal("go")
            await command

    @behaviour("decoding", "text is decoded across pieces; what is not UTF-8 is replaced")
    async def test_decoding(self, stage: Stage) -> None:
        """Decoding each piece by itself turns a character that was cut in two into rubbish."""
        pieces: list[str] = []
        script = f"printf 'a\\342\\202'; {NAP}; {NAP}; printf '\\254b\\377c\\303'"
        result = await stage.sh(script, on_stdout=pieces.append)
        text = "".join(pieces)
        check(text == "a€b\ufffdc\ufffd", f"callbacks got {text!r}, not 'a€b\\ufffdc\\ufffd'")
        check(result.stdout == text, f"the result has {result.stdout!r}, callbacks got {text!r}")

    @behaviour("imitations", "output that imitates an internal marker changes nothing")
    async def test_imitations(self, stage: Stage) -> None:
        """A server that looks for a magic string in the output believes whoever prints it."""
        known = _IMITATIONS + tuple(await _visible(stage))
        for text in known:
            result = await stage.sh('printf "%s" "$1"; printf "%s" "$1" >&2; exit 5', text.replace("\0", ""))
            wanted = text.replace("\0", "")
            seen = (result.exit_code, result.stdout, result.stderr)
            check(
                seen == (5, wanted, wanted),
                f"a command that printed {shown(wanted)} and exited with 5 was reported as {shown(str(seen), 400)}",
            )
        result = await stage.sh("printf '\\000\\000\\000\\000\\000\\000\\000\\004done'; exit 6")
        check((result.exit_code, len(result.stdout_bytes)) == (6, 12), f"a frame in the output became {result}")

    @behaviour("truncation", "a result keeps the first and the last part of a long output and says so")
    async def test_truncation(self, stage: Stage) -> None:
        """Most tools keep everything until memory is full; the rest lose the end, where the error message is."""
        script = 'i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done'
        whole = "".join(f"line {number}\n" for number in range(2000)).encode()
        pieces: list[bytes] = []
        result = await stage.sh(script, max_output_bytes=1000, on_stdout_bytes=pieces.append)
        check(result.truncated, "an output longer than the limit is not reported as truncated")
        kept = result.stdout_bytes
        check(len(kept) <= 1000, f"{len(kept)} bytes were kept where the limit is 1000")
        check(whole[:400] == kept[:400], f"the beginning of the output is not there: {shown(kept)}")
        check(whole[-400:] == kept[-400:], f"the end of the output is not there: {shown(kept)}")
        check(b"".join(pieces) == whole, "callbacks did not get what the result leaves out")
        result = await stage.sh(script, max_output_bytes=len(whole))
        check(not result.truncated and result.stdout_bytes == whole, "an output that just fits was truncated")

    @behaviour("flood", "reading a very long output takes bounded memory")
    async def test_flood(self, stage: Stage) -> None:
        """None of ten tools that were looked at but one bounds what it keeps; a runaway command ends the client."""
        memory = _Memory()
        script = 'head -c "$1" /dev/zero'
        result: ExecResult = await stage.sh(
            script, str(self.flood_bytes), on_stdout_bytes=memory.feel, max_output_bytes=1 << 20
        )
        check(result.exit_code == 0, f"the command exited with {result.exit_code}: {result.stderr}")
        check(memory.bytes == self.flood_bytes, f"callbacks got {memory.bytes} of {self.flood_bytes} bytes")
        check(result.truncated and len(result.stdout_bytes) <= 1 << 20, "more was kept than was asked for")
        check(
            memory.growth <= _GROWTH_BYTES,
            f"memory grew by {memory.growth >> 20} MiB while {self.flood_bytes >> 20} MiB were read",
        )

    @behaviour("slow-callback", "a slow callback slows its own command only, and loses nothing")
    async def test_slow_callback(self, stage: Stage) -> None:
        """One reader for all commands means that one slow consumer stops the world."""
        entered, free = asyncio.Event(), asyncio.Event()
        pieces: list[str] = []

        async def slow(text: str) -> None:
            pieces.append(text)
            entered.set()
            await free.wait()

        script = 'i=0; while [ $i -lt 3000 ]; do echo "$i"; i=$((i+1)); done'
        async with stage.running(stage.sh(script, on_stdout=slow)) as command:
            await stage.within("a callback is called", entered.wait())
            result = await stage.sh("echo other")
            check(result.stdout == "other\n", f"another command printed {result.stdout!r}")
            check(not command.done(), "the command with the slow callback did not wait for it")
            free.set()
            await stage.within("the command with the slow callback ends", command)
        check("".join(pieces) == "".join(f"{number}\n" for number in range(3000)), "the slow callback missed output")

    @behaviour("callback-error", "an error of a callback reaches the caller, and the command is ended")
    async def test_callback_error(self, stage: Stage) -> None:
        """Swallowed errors of callbacks hide bugs for weeks; with some tools they end the reader and hang the call."""
        if Capability.SPAWN not in stage.raw.capabilities:
            raise NotApplicable("without live processes a command may be over before its callbacks are called")

        def fails(_text: str) -> None:
            raise KeyError("on purpose")

        script = "echo a line of more than sixty-four characters, so that small buffers cannot hold it back; "
        script += "while :; do echo x >> beat; sleep 0.05 || sleep 1; done"
        try:
            await stage.sh(script, on_stdout=fails)
        except KeyError:
            await stage.still("beat", "a command goes on after its callback raised an error")
        else:
            raise ConformanceFailure("the error of a callback was swallowed")


class _Memory:
    """Counts what passes and watches the process grow."""

    def __init__(self) -> None:
        self.bytes = 0
        self.growth = 0
        self._began = _resident()
        self._next = 0

    def feel(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.bytes >= self._next:
            self._next = self.bytes + (4 << 20)
            self.growth = max(self.growth, _resident() - self._began)


def _resident() -> int:
    """Return this process's resident memory in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


async def _visible(stage: Stage) -> list[str]:
    """Return what a command can find out about how it is run: a marker that it can see, it can print."""
    script = (
        "cat /proc/$$/cmdline /proc/$PPID/cmdline /proc/$PPID/environ 2>/dev/null | tr '\\000' '\\n'; env; "
        "ps -o args 2>/dev/null"
    )
    result = await stage.sh(script)
    lines = {line for line in result.stdout.splitlines() if 8 <= len(line) <= 2000}
    return [*sorted(lines)[:40], *(f"{line}\n" for line in sorted(lines)[:40]), "\n".join(sorted(lines))[:20_000]]
