"""What people read: lines on standard error, and errors as sentences."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
import unicodedata

from gitmachine.errors import ConfigError, GitError, GitMachineError, InvalidStateError, StopRefused

__all__ = ["clean", "explain", "say", "show_traceback"]

PREFIX = "gitmachine: "
_KEPT_CONTROLS = "\n\t"
_LONGEST_STDERR_LINES = 5
_METHOD = re.compile(r"(?:call )?\b(start|resume|stop|commit|push)\(\)")
"""What an error advises to call from Python is a command of the same name here."""
_FORCE = ("stop(force=True)", "`stop --force`")


def clean(text: str) -> str:
    """Return text without characters that would act on a terminal; what came from elsewhere may hold any."""
    return "".join(
        character
        if character in _KEPT_CONTROLS or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else "\ufffd"
        for character in text
    )


def say(text: str) -> None:
    """Write a message to standard error; further lines are indented. Nobody reading it is no error."""
    first, *rest = clean(text).splitlines() or [""]
    lines = [PREFIX + first, *(f"  {line}" for line in rest)]
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.flush()
        os.write(2, data)


def explain(error: BaseException) -> str:
    """Return an error as a sentence, with a line below for each problem, note or piece of git's own words."""
    if isinstance(error, ConfigError):
        return _config(error)
    if not isinstance(error, GitMachineError):
        return f"internal error: {type(error).__name__}: {error} (--debug shows where; please report it)"
    # One sentence on one line, also where git's own words in it had several.
    text = " / ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    if isinstance(error, InvalidStateError | StopRefused):
        text = _METHOD.sub(r"`\1`", text.replace(*_FORCE))
    lines = [text]
    if isinstance(error, GitError):
        said = [line for line in error.stderr.splitlines() if line.strip() and line.strip() not in text]
        lines += said[-_LONGEST_STDERR_LINES:]
    lines += getattr(error, "__notes__", [])
    return "\n".join(line.replace(*_FORCE) for line in lines)


def _config(error: ConfigError) -> str:
    where = f" in {error.source}" if error.source else ""
    if len(error.problems) == 1:
        problem = error.problems[0]
        return problem + (f" ({error.source})" if error.source and error.source not in problem else "")
    return "\n".join([f"{len(error.problems)} problems{where}", *error.problems])


def show_traceback(error: BaseException) -> None:
    """Write an error's traceback to standard error."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
