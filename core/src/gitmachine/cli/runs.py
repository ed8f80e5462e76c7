"""``gitmachine spawn``, ``runs`` and ``attach``: commands that go on without anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import say
from gitmachine.cli.options import (
    CommandAfterName,
    Invocation,
    config_option,
    debug_option,
    json_option,
    load_settings,
    name_argument,
)
from gitmachine.cli.output import write_json, write_line, write_table

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.outcomes import RunInfo
    from gitmachine.session import AsyncGitMachine
    from gitmachine.session.run import AsyncRun

__all__ = ["attach", "runs", "spawn"]


@click.command(cls=CommandAfterName)
@click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable for the command; K alone passes ours on.")
@click.option("--name", "run_name", metavar="RUN", help="A name for the run.")
@json_option
@config_option
@debug_option
@name_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def spawn(*, name: str, run_name: str | None, as_json: bool, config: Path | None, **given: Any) -> None:
    """Begin COMMAND in the machine NAME and leave it running there; its output is kept. Prints the run's id.

    `runs` lists the runs, and `attach` shows the output from any place on.
    """
    from gitmachine.cli.acting import act
    from gitmachine.cli.prepare import check_command, environment

    check_command(given["command"])
    env = environment(given["env"])

    async def work(gm: AsyncGitMachine) -> RunInfo:
        run = await gm.spawn(list(given["command"]), env=env, name=run_name)
        return await run.info()

    info = act(name, work, doing="spawn", config=config)
    if as_json:
        write_json(info.as_dict())
    else:
        write_line(info.id)


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def runs(*, name: str, as_json: bool, config: Path | None) -> None:
    """List the runs that `spawn` began in the machine NAME, the oldest first."""
    from gitmachine.cli.acting import act

    found = act(name, lambda gm: gm.runs(), doing="runs", config=config, adopt=False)
    if as_json:
        write_json({"runs": [info.as_dict() for info in found]})
    elif found:
        write_table(["RUN", "NAME", "STATE", "CODE", "STARTED", "OUTPUT", "COMMAND"], [_row(info) for info in found])
    else:
        say("no run")


def _row(info: RunInfo) -> list[str]:
    return [
        info.id,
        info.name or "-",
        str(info.state),
        "-" if info.exit_code is None else str(info.exit_code),
        f"{info.started:%Y-%m-%d %H:%M:%SZ}",
        f"{info.stdout_bytes}+{info.stderr_bytes}",
        info.command,
    ]


@click.command()
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out N bytes of its output.")
@click.option(
    "--stderr-offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out N bytes of its errors."
)
@click.option("--no-follow", is_flag=True, help="Show what there is by now, and do not wait for its end.")
@config_option
@debug_option
@name_argument
@click.argument("run", metavar="RUN")
@click.pass_obj
def attach(invocation: Invocation, /, *, name: str, run: str, **given: Any) -> int:
    """Show the output of a run of the machine NAME, from its beginning, and wait for its end. RUN is its id or name.

    Exits with the run's own code; 125 for failures of our own. Ctrl-C leaves the run alone.
    """
    from gitmachine.cli.acting import attached, coded, interruptible

    async def main(interrupts: Interrupts) -> int:
        settings = load_settings(given["config"])
        async with attached(name, settings, interrupts, adopt=False) as gm:
            return await interrupts.run(_show(gm, run, given))

    def work() -> int:
        code = interruptible(main, "attach")
        if code:
            say(f"the command exited with {code}")
        return code

    return coded(work, debug=invocation.debug)


async def _show(gm: AsyncGitMachine, selector: str, given: dict[str, Any]) -> int:
    from gitmachine.cli.passthrough import Passthrough

    run: AsyncRun = await gm.attach(selector)
    out, err = Passthrough(1, essential=True), Passthrough(2, essential=False)
    offset, stderr_offset = given["offset"], given["stderr_offset"]
    if not given["no_follow"]:
        return await run.follow(out.write, err.write, stdout_offset=offset, stderr_offset=stderr_offset)
    info = await run.info()
    async for data in run.stdout(offset, follow=False):
        await out.write(data)
    async for data in run.stderr(stderr_offset, follow=False):
        await err.write(data)
    return Exit.OK if info.exit_code is None else info.exit_code
