"""Where a command begins on a line with a machine's name before it. Time budget: 1 s."""

from __future__ import annotations

from typing import Any

import click
import pytest

from gitmachine.cli.options import CommandAfterName


@click.command(cls=CommandAfterName)
@click.option("-e", "--env", multiple=True)
@click.option("--flag", is_flag=True)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def line(**given: Any) -> dict[str, Any]:
    """Return what was given."""
    return given


@pytest.mark.parametrize(
    ("args", "env", "flag", "command"),
    [
        ("a x -e y", (), False, ("x", "-e", "y")),
        ("a -- x -e y", (), False, ("x", "-e", "y")),
        ("a --flag -- -x", (), True, ("-x",)),
        ("--flag a x --flag", (), True, ("x", "--flag")),
        ("a -e K=V x --flag -- y", ("K=V",), False, ("x", "--flag", "--", "y")),
        ("a -eK=V --env L=W --env=M=X x", ("K=V", "L=W", "M=X"), False, ("x",)),
        ("-e -- a x", ("--",), False, ("x",)),
        ("a - x", (), False, ("-", "x")),
        ("a x -h", (), False, ("x", "-h")),
    ],
)
def test_what_follows_the_second_word_is_the_commands_own(
    args: str, env: tuple[str, ...], flag: bool, command: tuple[str, ...]
) -> None:
    found = line.main(args.split(), standalone_mode=False)
    assert found == {"name": "a", "env": env, "flag": flag, "command": command}


@pytest.mark.parametrize("args", [[], ["a"], ["a", "--"], ["a", "--unknown", "x"], ["a", "-e"]])
def test_what_is_no_command_line_is_refused(args: list[str]) -> None:
    with pytest.raises(click.UsageError):
        line.main(args, standalone_mode=False)
