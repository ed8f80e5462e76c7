"""What the steps plugin is configured with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Steps", "read_steps"]

DEFAULT_SECONDS = 600.0


@attrs.frozen(kw_only=True)
class Steps:
    """Commands for ``sh -c`` in the repository, in order, each with `timeout` seconds."""

    setup: tuple[str, ...] = ()
    teardown: tuple[str, ...] = ()
    timeout: float = DEFAULT_SECONDS


def read_steps(options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Steps:
    """Return the steps of ``[plugins.options.steps]``.

    ``GITMACHINE_SETUP`` and ``GITMACHINE_TEARDOWN`` hold one script each, which comes after those of the configuration.

    Raises:
        ConfigError: an option is unknown or of the wrong type; with every problem.
    """
    problems = [
        f"unknown option @ plugins.options.steps.{key}" for key in options.keys() - {"setup", "teardown", "timeout"}
    ]
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("setup", "teardown"):
        given = options.get(key, [])
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list | tuple) or not all(isinstance(step, str) and step.strip() for step in given):
            problems.append(f"expected a list of commands, not {given!r} @ plugins.options.steps.{key}")
            continue
        script = environ.get(f"GITMACHINE_{key.upper()}", "").strip()
        lists[key] = (*given, *([script] if script else []))
    timeout = options.get("timeout", DEFAULT_SECONDS)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        problems.append(f"expected seconds, not {timeout!r} @ plugins.options.steps.timeout")
    if problems:
        raise ConfigError(*problems)
    return Steps(setup=lists["setup"], teardown=lists["teardown"], timeout=float(timeout))
