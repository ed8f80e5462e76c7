"""Globs that name ignored files to keep, as git's pathspecs, and files to let through. Pure functions.

A glob is read like a line of .gitignore, without its negation: one without a slash matches a name at any depth, one
with a slash counts from the top of the repository, ``**`` stands for any directories, and a directory that matches
stands for all in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["glob_problem", "matcher", "pathspecs"]

_MAGIC = ":(top,glob)"


def glob_problem(glob: str) -> str | None:
    """Return what is wrong with a glob, or None."""
    parts = _parts(glob)
    try:
        glob.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return f"expected a glob of text, not {glob!r}"
    if "\0" in glob or not glob.strip() or not parts:
        return f'expected a glob such as "*.log", not {glob!r}'
    if ".." in parts:
        return f"expected a glob inside the repository, not {glob!r}: leave out '..'"
    if glob.startswith("!"):
        return f"expected a glob of files to keep, not {glob!r}: a leading '!' has no meaning here"
    return None


def pathspecs(globs: Iterable[str]) -> tuple[str, ...]:
    """Return the pathspecs of globs that have no problem.

    What a glob says is all behind the magic, so nothing in it can be taken for an option or for other magic.
    """
    found: list[str] = []
    for glob in globs:
        path = "/".join(_parts(glob))
        anchored = "/" in glob.rstrip("/")
        pattern = path if anchored else f"**/{path}"
        if not glob.endswith("/"):
            found.append(_MAGIC + pattern)
        found.append(f"{_MAGIC}{pattern}/**")
    return tuple(dict.fromkeys(found))


def matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether one of the globs matches a path from the top of the repository."""
    patterns = [re.compile(_expression(glob), re.DOTALL) for glob in globs]
    return lambda path: any(pattern.fullmatch(path) for pattern in patterns)


def _expression(glob: str) -> str:
    parts = _parts(glob)
    if "/" not in glob.rstrip("/"):
        parts = ["**", *parts]
    text = ""
    for part in parts:
        text += "(?:[^/]+/)*" if part == "**" else f"{_part_expression(part)}/"
    # A directory that matches stands for all in it; one that is named with a slash is never a file.
    inside = ".+" if glob.endswith("/") or parts[-1] == "**" else "(?:/.+)?"
    return (text if inside == ".+" else text.removesuffix("/")) + inside


def _part_expression(part: str) -> str:
    pieces = re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", part)
    return "".join(_piece_expression(piece) for piece in pieces)


def _piece_expression(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        body = piece[1:-1].replace("\\", r"\\")
        negated = body.startswith(("!", "^"))
        body = body[1:] if negated else body
        return f"(?!/)[{'^' if negated else ''}{body.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}]"
    return re.escape(piece)


def _parts(glob: str) -> list[str]:
    return [part for part in glob.split("/") if part not in ("", ".")]
