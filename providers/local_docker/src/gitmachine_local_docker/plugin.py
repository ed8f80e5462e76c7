"""The entry point: offers the provider without importing it."""

from __future__ import annotations

from gitmachine.hookspecs import hookimpl
from gitmachine.provider import ProviderSpec


@hookimpl
def gitmachine_register_providers() -> list[ProviderSpec]:
    """Offer ``local_docker``."""
    return [
        ProviderSpec(
            name="local_docker",
            factory="gitmachine_local_docker.machine:DockerMachine",
            config="gitmachine_local_docker.config:DockerConfig",
            summary="containers of a Docker engine, here or elsewhere",
            connect="gitmachine_local_docker.machine:connect",
            doctor="gitmachine_local_docker.doctor:doctor",
            find="gitmachine_local_docker.machine:find",
            inventory="gitmachine_local_docker.machine:inventory",
            snapshots="gitmachine_local_docker._snapshots:all_snapshots",
            delete_snapshot="gitmachine_local_docker._snapshots:drop_snapshot",
            aliases=("docker",),
        )
    ]
