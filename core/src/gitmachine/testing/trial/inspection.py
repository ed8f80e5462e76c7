"""What the probe finds out about a plugin that could be loaded: its hooks, its providers, its errors."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import GitMachineError
from gitmachine.plugins.discovery import PluginSource, find_plugins
from gitmachine.plugins.host import PluginHost, PluginStatus
from gitmachine.plugins.registry import Registry
from gitmachine.provider import CONTRACT, normalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from gitmachine.plugins.registry import Offer

__all__ = ["inspect_plugin"]

_REFERENCES = {
    "factory": ("config",),
    "connect": ("machine_id", "config"),
    "doctor": ("config",),
    "find": ("label", "config"),
    "inventory": ("config",),
    "snapshots": ("machine_ids", "config"),
    "delete_snapshot": ("snapshot", "config"),
}
"""What a provider's references name, and what each is called with; all but the factory are coroutine functions."""


def inspect_plugin(question: dict[str, Any]) -> dict[str, Any]:
    """Return what is wrong with the hooks, the providers and the errors of a plugin, as plain data."""
    source = next(
        found
        for found in find_plugins()
        if (found.name, found.distribution) == (question["name"], question["distribution"])
    )
    host = PluginHost(entry_points=[source])
    registry = Registry(host)
    offers = registry.providers()
    (report,) = host.plugins
    package = question["reference"].partition(":")[0].partition(".")[0]
    return {
        "cause": report.cause if report.status is not PluginStatus.OK else "",
        "hooks": list(report.hooks),
        "providers": [offer.spec.name for offer in offers],
        "eager": [offer.spec.factory.partition(":")[0] for offer in offers],
        "faults": [fault for offer in offers for fault in _faults(registry, offer, source)],
        "foreign": list(_foreign_errors(package)),
    }


def _faults(registry: Registry, offer: Offer, source: PluginSource) -> Iterator[str]:
    """Yield what is wrong with a provider."""
    spec = offer.spec
    if spec.contract != CONTRACT:
        yield f"{spec.name}: written for contract {spec.contract}, this core speaks {CONTRACT}"
        return
    for field, arguments in _REFERENCES.items():
        reference = getattr(spec, field)
        if reference is None:
            continue
        try:
            fault = _misfit(_attribute(reference), arguments, awaited=field != "factory")
            if fault is not None:
                yield f"{spec.name}: {field} = {reference!r} {fault}"
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever an import raises is what is reported
            yield f"{spec.name}: {field} = {reference!r}: {type(error).__name__}: {error}"
    try:
        cls = registry.config_class(spec.name)
    except GitMachineError as error:
        yield str(error)
    else:
        if not _is_frozen(cls):
            yield f"{spec.name}: {spec.config} is not frozen: use @attrs.frozen(kw_only=True)"
    others = [s for s in find_plugins() if (s.name, s.distribution) != (source.name, source.distribution)]
    for other in Registry(PluginHost(entry_points=others)).providers():
        common = {normalize_name(name) for name in (spec.name, *spec.aliases)} & other.names
        if common:
            yield f"{spec.name}: {other.plugin.origin} has a provider that answers to {', '.join(sorted(common))} too"


def _misfit(value: Any, arguments: tuple[str, ...], *, awaited: bool) -> str | None:
    """Return why something cannot be what is called with these arguments (and awaited), or None."""
    if not callable(value):
        return "cannot be called"
    try:
        inspect.signature(value).bind(*arguments)
    except TypeError as error:
        return f"cannot be called with ({', '.join(arguments)}): {error}"
    except ValueError:
        pass  # what is not written in Python does not always tell
    if inspect.iscoroutinefunction(value) and not awaited:
        return "is a coroutine function: make it a plain one"
    if awaited and (inspect.isfunction(value) or inspect.ismethod(value)) and not inspect.iscoroutinefunction(value):
        return "is no coroutine function: make it an async def"
    return None


def _attribute(reference: str) -> Any:
    module, _, name = reference.partition(":")
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _is_frozen(cls: type[Any]) -> bool:
    return attrs.has(cls) and cls.__setattr__ is not object.__setattr__ and cls.__hash__ is not None


def _foreign_errors(package: str) -> Iterator[str]:
    """Yield the public exceptions of a package that are no `GitMachineError`, and modules that cannot be imported."""
    seen = set()
    for name in _modules(package):
        try:
            module: ModuleType = import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever an import raises is what is reported
            yield f"{name} cannot be imported: {type(error).__name__}: {error}"
            continue
        if _is_private(name):
            continue
        for attribute, value in vars(module).items():
            public = inspect.isclass(value) and issubclass(value, Exception) and _is_public(module, attribute, value)
            own = public and value.__module__.partition(".")[0] == package and value not in seen
            if own and not issubclass(value, GitMachineError):
                seen.add(value)
                yield f"{name}.{attribute} is no GitMachineError"


def _is_public(module: ModuleType, attribute: str, value: type[Any]) -> bool:
    """Whether a module offers a class, and has not only imported what is private to its package."""
    listed = getattr(module, "__all__", None)
    if listed is not None and attribute in listed:
        return True
    return not attribute.startswith("_") and not _is_private(value.__module__)


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _modules(package: str) -> Iterator[str]:
    top = import_module(package)
    yield package
    for found in pkgutil.walk_packages(getattr(top, "__path__", ()), f"{package}.", onerror=lambda _name: None):
        if not found.name.endswith("__main__"):
            yield found.name
