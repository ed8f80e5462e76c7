"""``gitmachine new-provider`` and ``gitmachine new-plugin``: a working package to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import debug_option, json_option
from gitmachine.cli.output import write_json, write_line

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["new_plugin", "new_provider"]


def _arguments(function: Callable[..., None]) -> Callable[..., None]:
    function = click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))(function)
    return click.argument("name", metavar="NAME")(json_option(debug_option(function)))


@click.command("new-provider")
@_arguments
def new_provider(*, name: str, directory: Path | None, as_json: bool) -> None:
    """Write the package of a new provider of machines to DIR (default: gitmachine-NAME).

    NAME is what users write: letters, digits and dashes. The package works as it is, by processes of this host, and
    passes the conformance kit; the places to change are marked CHANGE.
    """
    _write("provider", name, directory, as_json=as_json)


@click.command("new-plugin")
@_arguments
def new_plugin(*, name: str, directory: Path | None, as_json: bool) -> None:
    """Write the package of a new plugin to DIR (default: gitmachine-NAME).

    NAME is what users write: letters, digits and dashes. The package works as it is, with two hooks and their tests;
    the places to change are marked CHANGE.
    """
    _write("plugin", name, directory, as_json=as_json)


def _write(kind: str, name: str, directory: Path | None, *, as_json: bool) -> None:
    from gitmachine.cli.template import PackageName, write_package

    package = PackageName.of(name)
    where = directory if directory is not None else Path(package.distribution)
    files = write_package(kind, package, where)
    if as_json:
        write_json(
            {
                "kind": kind,
                "name": package.name,
                "distribution": package.distribution,
                "module": package.module,
                "directory": str(where),
                "files": files,
            }
        )
        return
    for file in files:
        write_line(str(where / file))
    say(f"{package.distribution} is in {where}; what to change in it is marked CHANGE")
    say(f"next: pip install -e '{where}[test]', then pytest in {where}")
