"""For authors of providers and plugins: a machine for tests, faults on demand, the kits for machines and for plugins.

Nothing here needs pytest but `gitmachine.testing.plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.testing.fake import FakeMachine
    from gitmachine.testing.faults import FaultyMachine
    from gitmachine.testing.kit import MachineConformance
    from gitmachine.testing.trial import (
        HookCall,
        PluginConformance,
        PluginSession,
        call_hook,
        check_plugin_package,
        plugin_session,
    )

__all__ = [
    "FakeMachine",
    "FaultyMachine",
    "HookCall",
    "MachineConformance",
    "PluginConformance",
    "PluginSession",
    "call_hook",
    "check_plugin_package",
    "plugin_session",
]

_HOMES = {
    "FakeMachine": "gitmachine.testing.fake",
    "FaultyMachine": "gitmachine.testing.faults",
    "HookCall": "gitmachine.testing.trial",
    "MachineConformance": "gitmachine.testing.kit",
    "PluginConformance": "gitmachine.testing.trial",
    "PluginSession": "gitmachine.testing.trial",
    "call_hook": "gitmachine.testing.trial",
    "check_plugin_package": "gitmachine.testing.trial",
    "plugin_session": "gitmachine.testing.trial",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
