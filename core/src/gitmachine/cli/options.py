"""Options that several commands share, and what one call of the command line knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

if TYPE_CHECKING:
    from gitmachine.config.model import Settings

__all__ = ["Invocation", "config_option", "debug_option", "json_option", "load_settings"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.define
class Invocation:
    """One call of the command line."""

    debug: bool = False


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
