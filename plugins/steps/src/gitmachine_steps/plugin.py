"""The hooks of the steps plugin, which are `def`: they drive the session as any blocking program does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine import CommandFailedError, hookimpl
from gitmachine_steps.options import read_steps

if TYPE_CHECKING:
    from gitmachine import GitMachine

__all__ = ["gitmachine_setup", "gitmachine_teardown"]


@hookimpl
def gitmachine_setup(gm: GitMachine) -> None:
    """Run the commands of ``setup``; the first that fails undoes the start.

    Raises:
        CommandFailedError: with what the command printed last.
    """
    steps = read_steps(gm.plugin_options("steps"))
    _run(gm, "setup", steps.setup, steps.timeout)


@hookimpl
def gitmachine_teardown(gm: GitMachine) -> None:
    """Run the commands of ``teardown``; what they write is published.

    Raises:
        CommandFailedError: with what the command printed last.
    """
    steps = read_steps(gm.plugin_options("steps"))
    _run(gm, "teardown", steps.teardown, steps.timeout)


def _run(gm: GitMachine, when: str, commands: tuple[str, ...], timeout: float) -> None:
    for command in commands:
        result = gm.run(command, timeout=timeout)
        if result.exit_code == 0:
            continue
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise CommandFailedError(
            f"the {when} step {command!r} exited with {result.exit_code}" + (f": {said[-1]}" if said else ""),
            result=result,
            machine_id=gm.id,
            provider=gm.machine.provider,
        )
