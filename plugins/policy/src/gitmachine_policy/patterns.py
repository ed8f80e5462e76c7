"""Patterns of commands, and what they say about one. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine import ConfigError

if TYPE_CHECKING:
    from gitmachine import ExecRequest

__all__ = ["Refusal", "Rules", "command_line", "read_rules", "refusal"]

VARIABLE = "GITMACHINE_POLICY_DENY"
"""Patterns to deny, one a line, beside those of the configuration."""


@attrs.frozen(kw_only=True)
class Rules:
    """What is refused: a command that one of `deny` matches, unless one of `allow` matches it whole."""

    deny: tuple[re.Pattern[str], ...] = ()
    allow: tuple[re.Pattern[str], ...] = ()
    message: str = ""


@attrs.frozen
class Refusal:
    """Why a command may not run: the pattern that matches it."""

    command: str
    pattern: str


def read_rules(options: Mapping[str, Any], environ: Mapping[str, str]) -> Rules:
    """Return the rules of ``[plugins.options.policy]`` and the environment.

    Raises:
        ConfigError: an option is unknown or no regular expression; a policy that is not understood refuses everything.
    """
    problems = [
        f"unknown option @ plugins.options.policy.{key}" for key in options.keys() - {"deny", "allow", "message"}
    ]
    found: dict[str, tuple[re.Pattern[str], ...]] = {}
    for key in ("deny", "allow"):
        given = options.get(key, [])
        if isinstance(given, str) or not isinstance(given, Sequence):
            problems.append(f"expected a list of regular expressions, not {given!r} @ plugins.options.policy.{key}")
            continue
        patterns = list(given)
        if key == "deny":
            patterns += [line.strip() for line in environ.get(VARIABLE, "").splitlines() if line.strip()]
        found[key] = tuple(_compile(pattern, key, problems) for pattern in patterns)
    message = options.get("message", "")
    if not isinstance(message, str):
        problems.append(f"expected text, not {message!r} @ plugins.options.policy.message")
    if problems:
        raise ConfigError(*problems)
    return Rules(deny=found["deny"], allow=found["allow"], message=message)


def command_line(request: ExecRequest) -> str:
    """Return a command as the one line that patterns are matched with."""
    return request.shell if request.shell is not None else shlex.join(request.argv or ())


def refusal(request: ExecRequest, rules: Rules) -> Refusal | None:
    """Return why a command is refused, or None."""
    command = command_line(request)
    if any(pattern.fullmatch(command) for pattern in rules.allow):
        return None
    for pattern in rules.deny:
        if pattern.search(command):
            return Refusal(command, pattern.pattern)
    return None


def _compile(pattern: object, key: str, problems: list[str]) -> re.Pattern[str]:
    try:
        if isinstance(pattern, str):
            return re.compile(pattern)
        problems.append(f"expected a regular expression, not {pattern!r} @ plugins.options.policy.{key}")
    except re.error as error:
        problems.append(f"{pattern!r} is no regular expression: {error} @ plugins.options.policy.{key}")
    return re.compile("")
