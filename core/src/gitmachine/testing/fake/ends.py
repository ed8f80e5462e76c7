"""What a fake machine's command is connected to: three pipes, or a terminal."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.pipes import PipeReader, PipeWriter
from gitmachine.streams import NoOutput
from gitmachine.testing.fake.process import FakeProcess
from gitmachine.testing.fake.terminal import TERMINAL_SCRIPT, TerminalReader, TerminalWriter, set_size

if TYPE_CHECKING:
    from gitmachine.execution import ExecRequest
    from gitmachine.testing.fake.body import Body

__all__ = ["Ends", "open_ends"]


@attrs.frozen(kw_only=True)
class Ends:
    """The descriptors of one command, before it is started.

    Attributes:
        argv: what to start.
        options: how to start it.
        ours: the client's descriptors: output, errors (not of a terminal), input (if there is one).
        theirs: the command's.
        terminal: whether `ours` are the two uses of a terminal.
    """

    argv: tuple[str, ...]
    options: dict[str, Any]
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    terminal: bool = False

    def process(self, child: subprocess.Popen[bytes], body: Body, mark: int) -> FakeProcess:
        """Return the live process; the descriptors are its own from now on."""
        if self.terminal:
            reader, writer = TerminalReader(self.ours[0]), TerminalWriter(self.ours[1])
            return FakeProcess(child, body.tree, mark, stdout=reader, stderr=NoOutput(), stdin=writer)
        return FakeProcess(
            child,
            body.tree,
            mark,
            stdout=PipeReader(self.ours[0], adopt=body.adopt),
            stderr=PipeReader(self.ours[1], adopt=body.adopt),
            stdin=PipeWriter(self.ours[2]) if len(self.ours) > 2 else None,
        )


def open_ends(request: ExecRequest) -> Ends:
    """Make what the command of a request is to be connected to."""
    if request.terminal is not None:
        master, slave = os.openpty()
        name = os.ttyname(slave)
        set_size(master, request.terminal)
        return Ends(
            argv=("/bin/sh", "-c", TERMINAL_SCRIPT, name, *request.command),
            options={"stdin": slave, "stdout": slave, "stderr": slave},
            ours=(master, os.dup(master)),
            theirs=(slave,),
            terminal=True,
        )
    out, out_w = os.pipe()
    err, err_w = os.pipe()
    into: tuple[int, ...] = os.pipe() if request.open_stdin else ()
    return Ends(
        argv=request.command,
        options={"stdin": into[0] if into else subprocess.DEVNULL, "stdout": out_w, "stderr": err_w},
        ours=(out, err, *into[1:]),
        theirs=(out_w, err_w, *into[:1]),
    )
