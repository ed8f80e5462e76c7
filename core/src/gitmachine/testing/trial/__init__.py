"""The kit for plugins: a session with every hook call on record, and a check of a plugin's package."""

from gitmachine.testing.trial.conformance import PluginConformance
from gitmachine.testing.trial.package import check_plugin_package
from gitmachine.testing.trial.recording import HookCall, RecordingHost
from gitmachine.testing.trial.session import PluginSession, call_hook, plugin_session

__all__ = [
    "HookCall",
    "PluginConformance",
    "PluginSession",
    "RecordingHost",
    "call_hook",
    "check_plugin_package",
    "plugin_session",
]
