"""The entry point: offers the provider without importing it."""

from __future__ import annotations

from gitmachine.hookspecs import hookimpl
from gitmachine.provider import ProviderSpec


@hookimpl
def gitmachine_register_providers() -> list[ProviderSpec]:
    """Offer ``local``."""
    return [
        ProviderSpec(
            name="local",
            factory="gitmachine_local.machine:LocalMachine",
            config="gitmachine_local.config:LocalConfig",
            summary="processes on this host, sandboxed by bubblewrap",
            connect="gitmachine_local.machine:connect",
            doctor="gitmachine_local.doctor:doctor",
            find="gitmachine_local.machine:find",
            inventory="gitmachine_local.machine:inventory",
        )
    ]
