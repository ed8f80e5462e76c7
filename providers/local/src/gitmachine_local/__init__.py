"""GitMachine's local provider: commands on this host, in a sandbox of bubblewrap."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gitmachine_local.config import LocalConfig
    from gitmachine_local.machine import LocalMachine, connect

__all__ = ["LocalConfig", "LocalMachine", "connect"]


def __getattr__(name: str) -> object:
    # Nothing is loaded before it is used: the supervisor passes through here with nothing but the standard library.
    if name == "LocalConfig":
        from gitmachine_local.config import LocalConfig

        return LocalConfig
    if name in __all__:
        from gitmachine_local import machine

        return getattr(machine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
