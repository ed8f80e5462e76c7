"""What programs read: JSON documents and tables on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import clean, explain, say
from gitmachine.errors import GitMachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "OutputClosed",
    "OutputUnwritable",
    "plain",
    "write_bytes",
    "write_json",
    "write_json_line",
    "write_line",
    "write_outcome",
    "write_table",
]


class OutputClosed(Exception):  # noqa: N818  # what happened, not whose error it is
    """Nobody reads our standard output any more."""


class OutputUnwritable(GitMachineError):  # noqa: N818  # what happened, not whose error it is
    """Standard output takes no more: its disk is full, say."""


def _write(text: str) -> None:
    write_bytes(text.encode("utf-8", "backslashreplace"))


def write_bytes(content: bytes) -> None:
    """Write bytes as they are.

    Raises:
        OutputClosed: nobody reads any more.
        OutputUnwritable: it cannot be written for another reason.
    """
    data = memoryview(content)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise OutputUnwritable(f"standard output cannot be written: {error.strerror}") from error


def plain(value: Any) -> Any:
    """Return attrs objects, and what is in them, as data for JSON."""
    if attrs.has(type(value)):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def write_json(document: Any) -> None:
    """Write one JSON document and a line end."""
    _write(json.dumps(plain(document), indent=2) + "\n")


def write_outcome(document: Any, status: int) -> int:
    """Write the document of a command whose own exit code is ours, and return what to exit with."""
    try:
        write_json(document)
    except OutputUnwritable as error:
        say(explain(error))
        return Exit.RUN_FAILURE
    return status


def write_json_line(document: Any) -> None:
    """Write one JSON document on a line of its own."""
    _write(json.dumps(plain(document)) + "\n")


def write_line(text: str = "") -> None:
    """Write one line."""
    _write(clean(text) + "\n")


def write_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table: by rich on a terminal, else in plain columns."""
    cells = [[clean(cell).replace("\n", " ") for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, box=None, pad_edge=False)
        for row in cells:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for row in (list(headers), *cells):
        write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
