"""``gitmachine config``: show, check, schema, path."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import explain, say
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json, write_line
from gitmachine.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.config.model import Settings

__all__ = ["config"]


@click.group(invoke_without_command=True)
@json_option
@config_option
@debug_option
@click.pass_context
def config(context: click.Context, *, as_json: bool, config: Path | None) -> None:
    """Show and check the configuration; without a subcommand, show it."""
    if context.invoked_subcommand is None:
        context.invoke(show, as_json=as_json, config=config)
    elif as_json or config is not None:
        raise click.UsageError(f"write --json and --config after {context.invoked_subcommand!r}", context)


@config.command()
@json_option
@config_option
@debug_option
def show(*, as_json: bool, config: Path | None) -> None:
    """Print what holds, and where each value came from; secrets are not shown."""
    from gitmachine.config.show import shown

    settings = load_settings(config)
    values = shown(settings)
    if as_json:
        write_json({"source": settings.source, "settings": values, "origins": dict(settings.origins)})
        return
    write_line(f"# {settings.source or 'no configuration file'}")
    for key, value in _flat(values):
        write_line(f"{key} = {json.dumps(value, ensure_ascii=False)}  # {_origin(settings, key)}")


def _origin(settings: Settings, key: str) -> str:
    return settings.origins.get(key.partition(".")[0], "default")


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    from gitmachine.config.text import join

    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, join(path, key))
        elif value is not None:
            yield join(path, key), value


@config.command()
@json_option
@config_option
@debug_option
def check(*, as_json: bool, config: Path | None) -> int:
    """Look at everything in the configuration, whether it is used or not."""
    settings, problems, source = _checked(config)
    hints = _hints(settings) if settings is not None else ()
    if as_json:
        write_json({"ok": not problems, "source": source, "problems": problems, "hints": hints})
        return Exit.USAGE if problems else Exit.OK
    for hint in hints:
        say(hint)
    if problems:
        say(explain(ConfigError(*problems, source=source)))
        return Exit.USAGE
    nothing = "no configuration file" + ("" if hints else ", and nothing wrong in the environment")
    write_line(f"ok: {source or nothing}")
    return Exit.OK


def _hints(settings: Settings) -> tuple[str, ...]:
    from gitmachine.config.installed import plugin_host
    from gitmachine.config.remarks import remarks

    return (*settings.hints, *remarks(settings, plugin_host(settings)))


def _checked(config: Path | None) -> tuple[Settings | None, list[str], str | None]:
    from gitmachine.config.installed import check_installed

    try:
        settings = load_settings(config)
    except ConfigError as error:
        return None, list(error.problems), error.source
    return settings, check_installed(settings), str(settings.source) if settings.source else None


@config.command()
@click.option("--json", "as_json", is_flag=True, expose_value=False, help="The same: a schema is JSON.")
@debug_option
def schema() -> None:
    """Print a JSON Schema of the configuration file, with the options of installed providers."""
    from gitmachine.config.installed import installed_schema

    write_json(installed_schema())


@config.command()
@json_option
@config_option
@debug_option
def path(*, as_json: bool, config: Path | None) -> int:
    """Print which configuration file is read."""
    from gitmachine.config.sources import locate, user_file

    found = locate(config, os.environ, _cwd())
    own = user_file(os.environ)
    if as_json:
        write_json({"path": found, "user": own})
    elif found is not None:
        write_line(str(found))
    else:
        say(f"no configuration file is found from here upwards, nor {str(own)!r}, which would hold everywhere")
    return Exit.OK if found is not None else Exit.FAILURE


def _cwd() -> Path | None:
    from gitmachine.config.load import working_directory

    return working_directory()
