"""Raises in every hook that this core has."""

import inspect

from gitmachine import hookimpl, hookspecs

TEMPLATE = """
def {name}({arguments}):
    raise RuntimeError("raised in {name}")
"""

for name in [name for name in vars(hookspecs) if name.startswith("gitmachine_")]:
    names = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    exec(TEMPLATE.format(name=name, arguments=names))  # the specifications say which hooks there are
    hookimpl(globals()[name])
