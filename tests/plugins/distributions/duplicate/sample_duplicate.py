"""Claims a provider name that another distribution has, written differently."""

from gitmachine import ProviderSpec, hookimpl


@hookimpl
def gitmachine_register_providers():
    return [ProviderSpec(name="Papier", factory="sample_duplicate:make", config="sample_duplicate:Config")]
