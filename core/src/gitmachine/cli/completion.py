"""``gitmachine completion``: what a shell needs to complete command lines, machine names included."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gitmachine.cli.options import debug_option
from gitmachine.cli.output import write_bytes

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["completion", "machine_names"]

PROGRAM = "gitmachine"
VARIABLE = "_GITMACHINE_COMPLETE"
"""What click looks at to find that it is to complete, not to run."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
def completion(*, shell: str) -> None:
    """Print a script that teaches SHELL to complete gitmachine's command lines.

    For bash, in ~/.bashrc:  eval "$(gitmachine completion bash)"

    For zsh, in ~/.zshrc:    eval "$(gitmachine completion zsh)"

    For fish:                gitmachine completion fish > ~/.config/fish/completions/gitmachine.fish
    """
    from click.shell_completion import get_completion_class

    from gitmachine.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None  # click has all three
    made = found(cli, {}, PROGRAM, VARIABLE)
    # Not source(): it would look for the shell itself, which may be on another host.
    write_bytes((made.source_template % made.source_vars()).encode())


def machine_names(incomplete: str) -> list[CompletionItem]:
    """Return the names, else ids, of live machines that begin so; a journal that cannot be read has none."""
    from click.shell_completion import CompletionItem

    from gitmachine.errors import GitMachineError
    from gitmachine.state.journal import Journal
    from gitmachine.state.places import Places

    places = Places.default(os.environ)
    found: list[CompletionItem] = []
    try:
        if not places.journal.exists():
            return []
        import asyncio

        with Journal.open(places) as journal:
            records = asyncio.run(journal.machines())
    except (GitMachineError, OSError):
        return []  # a shell that completes shows no errors
    for record in records:
        names = [name for name in (record.name, record.machine_id, record.key) if name is not None]
        fitting = [name for name in names if name.startswith(incomplete) and name.isprintable()]
        if fitting:
            found.append(CompletionItem(fitting[0], help=f"{record.state}, {record.session}"))
    return found
