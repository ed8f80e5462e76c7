"""GitMachine's E2B provider: E2B's sandboxes, by their own protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine_e2b.config import E2BConfig, E2BNetwork
    from gitmachine_e2b.machine import E2BMachine, connect

__all__ = ["E2BConfig", "E2BMachine", "E2BNetwork", "connect"]


def __getattr__(name: str) -> object:
    # Nothing is loaded before it is used: every command of GitMachine imports this package on its way to the plugin.
    if name in ("E2BConfig", "E2BNetwork"):
        from gitmachine_e2b import config

        return getattr(config, name)
    if name in __all__:
        from gitmachine_e2b import machine

        return getattr(machine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
