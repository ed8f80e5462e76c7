"""What is installed, as a configuration allows it: the plugins, and the providers' config classes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gitmachine.errors import GitMachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitmachine.config.machines import ClassOf
    from gitmachine.config.model import Settings
    from gitmachine.plugins.host import PluginHost

__all__ = ["check_installed", "installed_classes", "installed_schema", "plugin_host"]


def plugin_host(settings: Settings, environ: Mapping[str, str] | None = None) -> PluginHost:
    """Return a host that loads the plugins which the settings allow; each ``GITMACHINE_…`` variable is stronger."""
    from gitmachine.plugins.host import PluginHost

    environ = os.environ if environ is None else environ
    chosen = settings.plugins
    merged = dict(environ)
    if chosen.enable is not None:
        merged.setdefault("GITMACHINE_PLUGINS", ",".join(chosen.enable))
    if chosen.disable:
        merged.setdefault("GITMACHINE_DISABLE_PLUGINS", ",".join(chosen.disable))
    if chosen.strict:
        merged.setdefault("GITMACHINE_STRICT_PLUGINS", "1")
    merged.setdefault("GITMACHINE_HOOK_TIMEOUT", repr(chosen.hook_timeout))
    return PluginHost.default(merged, options=chosen.options)


def installed_classes(settings: Settings, environ: Mapping[str, str] | None = None) -> ClassOf:
    """Return a function that gives a provider's config class, or None when it cannot be had here."""
    from gitmachine.plugins.registry import Registry

    registry = Registry(plugin_host(settings, environ))

    def class_of(name: str) -> type | None:
        try:
            return registry.config_class(name)
        except GitMachineError:
            return None  # not installed or broken: choosing it says so, its table alone stops nobody

    return class_of


def check_installed(settings: Settings, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with the tables of providers and machines, and with the choice of a provider."""
    from gitmachine.config.machines import DEFAULT_PROVIDER, check_tables
    from gitmachine.plugins.registry import Registry

    environ = os.environ if environ is None else environ
    problems = check_tables(settings, installed_classes(settings, environ), environ)
    try:
        Registry(plugin_host(settings, environ)).resolve(settings.provider or DEFAULT_PROVIDER)
    except GitMachineError as error:
        problems.append(f"{error} @ provider")
    return problems


def installed_schema(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of the configuration file, with the options of every installed provider."""
    from gitmachine.config.schema import settings_schema
    from gitmachine.plugins.host import PluginHost
    from gitmachine.plugins.registry import Registry

    registry = Registry(PluginHost.default(os.environ if environ is None else environ))
    classes: dict[str, type] = {}
    for offer in registry.providers():
        try:
            classes[offer.spec.name] = registry.config_class(offer.spec.name)
        except GitMachineError:
            continue  # `gitmachine doctor` says what is wrong with it; its table may hold anything
    return settings_schema(classes)
