"""Implements every hook that this core has, in turn as `def` and as `async def`; answers none.

Each call is a line of the file that SAMPLE_HOOKS_LOG names: the hook, def or async, and the arguments' names.
"""

import inspect
import json
import os
from pathlib import Path

from gitmachine import hookimpl, hookspecs

HOOKS = [name for name in vars(hookspecs) if name.startswith("gitmachine_")]
TEMPLATE = """
{kind} {name}({arguments}):
    note({name!r}, {kind!r}, {arguments_named!r})
"""


def note(hook, kind, arguments):
    log = os.environ.get("SAMPLE_HOOKS_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write(json.dumps([hook, kind, arguments]) + "\n")


for number, name in enumerate(HOOKS):
    names = list(inspect.signature(getattr(hookspecs, name)).parameters)
    kind = "async def" if number % 2 else "def"
    source = TEMPLATE.format(kind=kind, name=name, arguments=", ".join(names), arguments_named=names)
    exec(source)  # the specifications say which hooks there are
    hookimpl(globals()[name])
