"""The hooks of the policy plugin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gitmachine import CommandVetoed, hookimpl
from gitmachine_policy.patterns import read_rules, refusal

if TYPE_CHECKING:
    from gitmachine import AsyncGitMachine, ExecRequest

__all__ = ["gitmachine_before_command"]


@hookimpl(trylast=True)
async def gitmachine_before_command(gm: AsyncGitMachine, request: ExecRequest) -> None:
    """Refuse what the policy denies; last of all, so that it sees what other plugins made of the command.

    Raises:
        CommandVetoed: it matches a pattern.
        ConfigError: the policy cannot be read; nothing runs then.
    """
    rules = read_rules(gm.plugin_options("policy"), os.environ)
    refused = refusal(request, rules)
    if refused is not None:
        more = f": {rules.message}" if rules.message else ""
        raise CommandVetoed(f"the policy refuses this command, since it matches '{refused.pattern}'{more}")
