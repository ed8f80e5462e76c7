"""GitMachine's SSH provider: machines on any host with sshd."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine_ssh.config import SSHConfig
    from gitmachine_ssh.machine import SSHMachine, connect

__all__ = ["SSHConfig", "SSHMachine", "connect"]


def __getattr__(name: str) -> object:
    # Nothing is loaded before it is used: listing the providers passes through here.
    if name == "SSHConfig":
        from gitmachine_ssh.config import SSHConfig

        return SSHConfig
    if name in __all__:
        from gitmachine_ssh import machine

        return getattr(machine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
