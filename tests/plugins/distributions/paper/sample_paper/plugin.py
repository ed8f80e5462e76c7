"""Offers the provider without importing it."""

from gitmachine import ProviderSpec, hookimpl


@hookimpl
def gitmachine_register_providers():
    return [
        ProviderSpec(
            name="paper",
            factory="sample_paper.machine:make",
            config="sample_paper.machine:PaperConfig",
            summary="machines of paper",
            aliases=("papier",),
        )
    ]
