"""The entry point: offers the provider without importing it."""

from __future__ import annotations

from gitmachine.hookspecs import hookimpl
from gitmachine.provider import ProviderSpec


@hookimpl
def gitmachine_register_providers() -> list[ProviderSpec]:
    """Offer ``e2b``."""
    return [
        ProviderSpec(
            name="e2b",
            factory="gitmachine_e2b.machine:E2BMachine",
            config="gitmachine_e2b.config:E2BConfig",
            summary="sandboxes of E2B's cloud",
            connect="gitmachine_e2b.machine:connect",
            doctor="gitmachine_e2b.doctor:doctor",
            find="gitmachine_e2b.machine:find",
            inventory="gitmachine_e2b.machine:inventory",
            snapshots="gitmachine_e2b._snapshots:all_snapshots",
            delete_snapshot="gitmachine_e2b._snapshots:drop_snapshot",
        )
    ]
