"""The entry point: offers the provider without importing it."""

from __future__ import annotations

from gitmachine.hookspecs import hookimpl
from gitmachine.provider import ProviderSpec


@hookimpl
def gitmachine_register_providers() -> list[ProviderSpec]:
    """Offer ``ssh``."""
    return [
        ProviderSpec(
            name="ssh",
            factory="gitmachine_ssh.machine:SSHMachine",
            config="gitmachine_ssh.config:SSHConfig",
            summary="a directory and its processes on any host with sshd",
            connect="gitmachine_ssh.machine:connect",
            doctor="gitmachine_ssh.doctor:doctor",
            find="gitmachine_ssh.machine:find",
            inventory="gitmachine_ssh.machine:inventory",
        )
    ]
