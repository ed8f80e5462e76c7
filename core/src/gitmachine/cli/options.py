"""Options that several commands share, and what one call of the command line knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from gitmachine.cli.messages import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from gitmachine.config.model import Settings

__all__ = [
    "CommandAfterName",
    "Invocation",
    "config_option",
    "debug_option",
    "json_option",
    "load_settings",
    "name_argument",
    "optional_name_argument",
]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.define
class Invocation:
    """One call of the command line.

    Attributes:
        debug: whether tracebacks are shown.
        extra: the commands of plugins, once they were asked for.
    """

    debug: bool = False
    extra: dict[str, click.Command] | None = None


class LogLines(logging.Handler):
    """Tells what the log has to say: an error of a plugin, say, in one line, with its traceback on request."""

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(logging.WARNING)
        self._invocation = invocation

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record to standard error."""
        text = record.getMessage()
        say(text if self._invocation.debug else text.partition("\n")[0])


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    invocation = context.find_object(Invocation)
    if value and invocation is not None:
        invocation.debug = True


def debug_option(function: F) -> F:
    """Add ``--debug``."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks of errors."
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def config_option(function: F) -> F:
    """Add ``--config``, passed as `config`."""
    return click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file to read."
    )(function)


def load_settings(config: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Load the settings. Raises ConfigError with every problem."""
    from gitmachine.config.load import load_config

    return load_config(config, overrides=overrides)


class CommandAfterName(click.Command):
    """A command line ``[OPTIONS] NAME [OPTIONS] [--] COMMAND…``: what follows the second word is the command's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments with a ``--`` before the command."""
        at = self._command_at(args, ctx)
        return super().parse_args(ctx, args if at is None else [*args[:at], "--", *args[at:]])

    def _command_at(self, args: Sequence[str], ctx: click.Context) -> int | None:
        """Return where the command begins, or None where a ``--`` says so or there is none."""
        valued = {
            name
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        words, index = 0, 0
        while index < len(args):
            word = args[index]
            if word == "--":
                return None
            if word.startswith("-") and word != "-":
                index += 1 if word in valued else 0
            elif words:
                return index
            else:
                words += 1
            index += 1
        return None


def name_argument(function: F) -> F:
    """Add ``NAME``, a machine's name or the unambiguous beginning of its id; passed as `name`."""
    return click.argument("name", metavar="NAME", shell_complete=_machine_names)(function)


def optional_name_argument(function: F) -> F:
    """Add ``[NAME]``, as `name_argument`; left out it is None."""
    return click.argument("name", metavar="[NAME]", required=False, shell_complete=_machine_names)(function)


def _machine_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from gitmachine.cli.completion import machine_names

    return machine_names(incomplete)
