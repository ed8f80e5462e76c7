"""``gitmachine shell``: a terminal in a machine, at the terminal one sits at."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import say
from gitmachine.cli.options import (
    CommandAfterName,
    Invocation,
    config_option,
    debug_option,
    load_settings,
    name_argument,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gitmachine.cli.desk import Desk
    from gitmachine.session import AsyncGitMachine
    from gitmachine.session.terminal import AsyncTerminal

    _Work = Callable[[Interrupts], Awaitable[int]]

__all__ = ["shell"]

BACKLOG_PIECES = 256
"""How much may be typed ahead of a machine that takes nothing."""
LEAVE = b"\x1d"
LEAVE_TIMES = 3
"""Ctrl-] so many times in a row closes the terminal, whatever the machine does."""


class _Left(Exception):  # noqa: N818  # what happened, not an error
    """Whoever sits at the terminal leaves, or it is gone."""


@click.command(cls=CommandAfterName)
@click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable for the command; K alone passes ours on.")
@config_option
@debug_option
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def shell(invocation: Invocation, /, *, name: str, command: tuple[str, ...], **given: Any) -> int:
    """Open a terminal in the repository of the machine NAME: its shell, or COMMAND.

    Every key goes there, Ctrl-C too; Ctrl-] three times in a row closes the terminal from here. Exits with the
    command's own code; 125 for failures of our own, 130 when it was closed from here, 2 for mistakes in usage.
    """
    from gitmachine.cli.acting import coded
    from gitmachine.cli.desk import Desk
    from gitmachine.cli.prepare import check_command, environment

    desk = Desk()
    if not desk.is_there:
        raise click.UsageError(
            f"standard input is not a terminal: for a command without one use `gitmachine exec {name} -- COMMAND`"
        )
    check_command(command)
    env = environment(given["env"])
    return coded(lambda: _at(desk, _open(desk, name, command, env, given)), debug=invocation.debug)


def _at(desk: Desk, work: _Work) -> int:
    """Do the work; interruptions from outside close the terminal and give ours back."""

    def announce() -> None:
        desk.restore()
        say("interrupted: closing the terminal in the machine")

    def leave() -> None:
        desk.restore()
        os._exit(Exit.INTERRUPTED)

    async def main() -> int:
        interrupts = Interrupts(announce, leave)
        interrupts.install()
        return await work(interrupts)

    try:
        return asyncio.run(main())
    except Interrupted:
        raise click.Abort from None


def _open(desk: Desk, name: str, command: tuple[str, ...], env: dict[str, str], given: dict[str, Any]) -> _Work:
    async def work(interrupts: Interrupts) -> int:
        from gitmachine.cli.acting import attached

        async with attached(name, load_settings(given["config"]), interrupts) as gm:
            return await interrupts.run(_talk(desk, gm, command, env))

    return work


async def _talk(desk: Desk, gm: AsyncGitMachine, command: tuple[str, ...], env: dict[str, str]) -> int:
    size = desk.size
    wanted = list(command) if command else None
    async with await gm.open_terminal(wanted, columns=size.columns, rows=size.rows, env=env) as terminal:
        try:
            with desk.raw():
                code = await _connect(desk, terminal)
        except _Left:
            say("the terminal was closed from here: what ran on it was ended")
            return Exit.INTERRUPTED
    if code:
        say(f"the command exited with {code}")
    return code


async def _connect(desk: Desk, terminal: AsyncTerminal) -> int:
    """Move keys there and what is shown here, until the command has ended and everything was shown."""
    resized = asyncio.Event()
    desk.watch(resized.set)
    resized.set()  # it may have changed since it was asked
    sides = [asyncio.ensure_future(side) for side in (_type(desk, terminal), _fit(desk, terminal, resized))]
    showing = asyncio.ensure_future(_show(terminal))
    try:
        waiting = [*sides, showing]
        while not showing.done():
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            waiting = [task for task in waiting if task not in done]
        showing.result()
        return await terminal.wait()
    finally:
        desk.unwatch()
        for task in (*sides, showing):
            task.cancel()
        await asyncio.gather(*sides, showing, return_exceptions=True)


async def _type(desk: Desk, terminal: AsyncTerminal) -> None:
    """Pass on what is typed, also ahead of the machine, since the keys that leave it must be noticed. Raises _Left."""
    leaving = 0
    backlog: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG_PIECES)
    writing = asyncio.ensure_future(_write(terminal, backlog))
    try:
        while True:
            data = await desk.read()
            last = len(data) - len(data.rstrip(LEAVE))
            leaving = leaving + last if last == len(data) else last
            if not data or leaving >= LEAVE_TIMES:
                raise _Left
            await backlog.put(data)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _write(terminal: AsyncTerminal, backlog: asyncio.Queue[bytes]) -> None:
    while True:
        data = await backlog.get()
        # It may have ended, as its output will tell.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await terminal.write(data)


async def _fit(desk: Desk, terminal: AsyncTerminal, resized: asyncio.Event) -> None:
    """Have the terminal in the machine the size of ours."""
    while True:
        await resized.wait()
        resized.clear()
        size = desk.size
        await terminal.resize(size.columns, size.rows)


async def _show(terminal: AsyncTerminal) -> None:
    from gitmachine.cli.passthrough import Passthrough

    out = Passthrough(1, essential=True)
    async for data in terminal:
        await out.write(data)
