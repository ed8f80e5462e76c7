"""Find installed plugins by entry point; the only module that imports importlib_metadata, and only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.hookspecs import GROUP
from gitmachine.provider import normalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from importlib_metadata import EntryPoint

__all__ = ["PluginSource", "find_plugins"]


@attrs.frozen(kw_only=True)
class PluginSource:
    """A plugin that is installed but not imported.

    Attributes:
        name: the entry point's name.
        load: imports the plugin and returns it; may raise anything.
        distribution: what pip calls the package it came with, or None.
        version: the version of that package, or None.
        reference: what `load` imports, as ``package.module`` or ``package.module:attribute``; None when not known.
    """

    name: str
    load: Callable[[], Any] = attrs.field(repr=False)
    distribution: str | None = None
    version: str | None = None
    reference: str | None = None


def find_plugins(path: Sequence[str] | None = None) -> tuple[PluginSource, ...]:
    """Return every plugin of the entry point group, sorted by name, then by distribution.

    Distributions are walked one at a time, because one with unreadable metadata must not hide the others: it is
    returned as a source whose `load` raises what went wrong.

    Args:
        path: where to look; None is ``sys.path``.
    """
    import importlib_metadata

    walk = importlib_metadata.distributions() if path is None else importlib_metadata.distributions(path=list(path))
    found: dict[str, tuple[PluginSource, ...]] = {}
    for distribution in walk:
        for name, sources in _sources(distribution):
            # The first on the path wins, as it does for import: a second copy of a distribution is shadowed.
            found.setdefault(name, sources)
    return tuple(
        sorted(
            (source for sources in found.values() for source in sources), key=lambda s: (s.name, s.distribution or "")
        )
    )


def _sources(distribution: Any) -> Iterator[tuple[str, tuple[PluginSource, ...]]]:
    """Yield the distribution's folded name with its plugins, or nothing when it has none."""
    label: str | None = None
    try:
        # Reading the one small file first spares the parsing of every other distribution's metadata.
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            return
        metadata = distribution.metadata
        label, version = metadata["Name"], metadata["Version"]
        points = [point for point in distribution.entry_points if point.group == GROUP]
    except Exception as error:  # noqa: BLE001  # metadata on disk can be broken in any way
        label = label or _folder(distribution)
        yield normalize_name(label), (PluginSource(name=label, distribution=label, load=_raiser(error)),)
        return
    label = label or _folder(distribution)
    yield normalize_name(label), tuple(_source(point, label, version) for point in points)


def _source(point: EntryPoint, distribution: str, version: str | None) -> PluginSource:
    return PluginSource(
        name=point.name, load=point.load, distribution=distribution, version=version, reference=point.value
    )


def _folder(distribution: Any) -> str:
    """Return a name for a distribution that cannot tell its own: its metadata folder's."""
    where = getattr(distribution, "_path", None)
    return str(getattr(where, "name", "unreadable distribution"))


def _raiser(error: Exception) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load
