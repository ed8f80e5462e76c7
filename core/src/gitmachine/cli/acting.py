"""One operation on a machine that another process started: attach, act, let go."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitmachine.cli.exits import Exit, run_exit_code
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import load_settings
from gitmachine.cli.output import OutputClosed
from gitmachine.errors import GitMachineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.plugins.host import PluginHost
    from gitmachine.session import AsyncGitMachine

    Observer = Callable[[str, dict[str, Any]], None]
    T = TypeVar("T")

__all__ = ["act", "attached", "coded", "interruptible", "means"]


def act(
    name: str,
    work: Callable[[AsyncGitMachine], Awaitable[T]],
    *,
    doing: str,
    config: Path | None,
    adopt: bool = True,
    observe: Observer | None = None,
) -> T:
    """Do some work on a machine of the journal; an interruption cancels it in order.

    Args:
        name: the machine's name or the beginning of its id.
        work: called with the session; lets nothing of it escape.
        doing: what an interruption interrupts.
        config: the configuration file that was named.
        adopt: whether a machine whose owner is gone becomes one that was left on purpose.
        observe: told each event's name and data.

    Raises:
        click.Abort: it was interrupted.
    """
    settings = load_settings(config)

    async def main(interrupts: Interrupts) -> T:
        async with attached(name, settings, interrupts, adopt=adopt, observe=observe) as gm:

            async def working() -> T:
                return await work(gm)

            return await interrupts.run(working())

    return interruptible(main, doing)


def interruptible(main: Callable[[Interrupts], Coroutine[Any, Any, T]], doing: str) -> T:
    """Run a coroutine that interruptions cancel.

    Raises:
        click.Abort: it was interrupted.
    """

    def announce() -> None:
        say(f"interrupted: ending {doing!r} (Ctrl-C again leaves at once)")

    def leave() -> None:
        say(f"left at once: {doing!r} was not ended; the next command that looks at it finishes or undoes it")
        os._exit(Exit.INTERRUPTED)

    async def guarded() -> T:
        interrupts = Interrupts(announce, leave)
        interrupts.install()
        return await main(interrupts)

    try:
        return asyncio.run(guarded())
    except Interrupted:
        raise click.Abort from None


def coded(work: Callable[[], int], *, debug: bool) -> int:
    """Return what some work does, a command's own exit code; an error of ours is told and has a code of its own.

    Raises:
        click.Abort: it was interrupted.
        OutputClosed: nobody reads standard output any more.
    """
    try:
        return work()
    except (click.Abort, OutputClosed):
        raise
    except Exception as error:  # noqa: BLE001  # a mistake of ours too has an exit code of its own here
        if debug:
            show_traceback(error)
        say(explain(error))
        return run_exit_code(error)


@contextlib.asynccontextmanager
async def attached(
    name: str,
    settings: Settings,
    interrupts: Interrupts,
    *,
    adopt: bool = True,
    observe: Observer | None = None,
) -> AsyncIterator[AsyncGitMachine]:
    """Have a machine of the journal at hand; what a process before left half done is told, and finished or undone.

    Raises:
        StateError: there is no such machine, several fit, or it has ended.
        MachineLostError: it is gone.
        Interrupted: meanwhile.
    """
    from gitmachine.catalog import attach

    on_event = None if observe is None else lambda event, data, _gm: observe(event, data)
    keywords = await means(settings, name)
    gm = await interrupts.run(attach(name, adopt=adopt, on_event=on_event, report=say, **keywords))
    try:
        yield gm
    finally:
        try:
            await gm.close()
        except GitMachineError as error:
            say(explain(error))


async def means(settings: Settings, name: str | None = None, *, repository: str | None = None) -> Mapping[str, Any]:
    """Return the token and the plugins that the settings give.

    A token that stands in a file beside a repository belongs to that repository, and goes to no other.

    Args:
        settings: everything that was configured.
        name: the machine they are for; None is every machine.
        repository: the repository's URL where that is known already.
    """
    from gitmachine.config.installed import plugin_host

    host: PluginHost = plugin_host(settings)
    token = settings.token
    own = settings.origins.get("token") == "file" and settings.origins.get("repository") == "file"
    if token is not None and own and not await _only_for(settings.repository or "", name, repository):
        token = None
    return {"token": token, "plugins": host}


async def _only_for(own: str, name: str | None, repository: str | None) -> bool:
    """Tell whether what is to be done concerns only one's own repository."""
    from gitmachine.git.names import check_repository
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    try:
        ours = check_repository(own).canonical
        if repository is not None:
            return check_repository(repository).canonical == ours
        async with await Journal.aopen(Places.default().ensure()) as journal:
            records = await journal.machines() if name is None else [await journal.machine(name)]
    except GitMachineError:
        return False  # who comes next says what is wrong
    return all(record.repository == ours for record in records)
