"""The variables of the environment that GitMachine knows."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.config.model import Settings
from gitmachine.config.structure import field_types
from gitmachine.config.text import Loose
from gitmachine.git.model import GitIdentity, GitOptions, GuardOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["OTHER_VARIABLES", "PREFIX", "SETTING_VARIABLES", "given", "hints"]

PREFIX = "GITMACHINE_"

_DIRECT = ("provider", "repository", "token", "session", "auto_commit", "timeout", "path")
_SECTIONS: dict[str, type] = {"git": GitOptions, "guard": GuardOptions, "identity": GitIdentity}

OTHER_VARIABLES = (
    "GITMACHINE_COMMIT_SUMMARY",
    "GITMACHINE_CONFIG",
    "GITMACHINE_DEBUG",
    "GITMACHINE_DISABLE_PLUGINS",
    "GITMACHINE_HOME",
    "GITMACHINE_HOOK_TIMEOUT",
    "GITMACHINE_PLUGINS",
    "GITMACHINE_REQUIRE_SERVICES",
    "GITMACHINE_STRICT_PLUGINS",
    "GITMACHINE_TRACE_HOOKS",
)
"""Variables that are no settings of a session."""


def _setting_variables() -> dict[str, tuple[tuple[str, ...], Any]]:
    table: dict[str, tuple[tuple[str, ...], Any]] = {
        f"{PREFIX}{key.upper()}": ((key,), field_types(Settings)[key]) for key in _DIRECT
    }
    for section, cls in _SECTIONS.items():
        for field in attrs.fields(cls):
            name = f"{PREFIX}{section}_{field.name}".upper()
            table[name] = ((section, field.name), field_types(cls)[field.name])
    return table


SETTING_VARIABLES = _setting_variables()
"""Each variable that stands for a setting: where the setting is, and its type."""


def given(environ: Mapping[str, str]) -> dict[str, tuple[tuple[str, ...], Loose]]:
    """Return the settings that the environment gives, by variable. An empty variable gives nothing."""
    return {
        name: (keys, Loose(environ[name]))
        for name, (keys, _kind) in SETTING_VARIABLES.items()
        if environ.get(name, "").strip()
    }


def hints(names: Iterable[str]) -> tuple[str, ...]:
    """Return a remark for each variable that looks like a misspelt one of ours."""
    known = {name.removeprefix(PREFIX): name for name in (*SETTING_VARIABLES, *OTHER_VARIABLES)}
    remarks = []
    for name in sorted(names):
        rest = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and rest not in known:
            close = difflib.get_close_matches(rest, known, n=1, cutoff=0.75)
            if close:
                remarks.append(f"the variable {name} means nothing here: did you mean {known[close[0]]}?")
    return tuple(remarks)
