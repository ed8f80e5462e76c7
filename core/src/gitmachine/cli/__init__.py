"""The command line: one module for each group of commands; what is heavy is imported inside the commands."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments without the program's name; None takes those of this process.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        _occupy_standard_streams()
        if args in (["--version"], ["-V"]):
            return _version()
        from gitmachine.cli.app import run

        return run(args)
    except KeyboardInterrupt:  # while modules are being imported: nothing has happened yet
        return 130


def _occupy_standard_streams() -> None:
    """Give a closed standard stream to /dev/null: a database must never be opened as descriptor 1."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _version() -> int:
    from gitmachine import __version__

    try:
        os.write(1, f"gitmachine {__version__}\n".encode())
    except OSError:
        return 1
    return 0
