"""Explain why a provider name leads nowhere: what is close, what is broken or disabled, what to install."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from gitmachine.errors import UnknownProviderError
from gitmachine.plugins.host import PluginReport, PluginStatus
from gitmachine.provider import normalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["WELL_KNOWN", "unknown_provider"]

WELL_KNOWN = {
    "local": "gitmachine-local",
    "local_docker": "gitmachine-local-docker",
    "docker": "gitmachine-local-docker",
    "ssh": "gitmachine-ssh",
    "e2b": "gitmachine-e2b",
}
"""The distribution to install for each provider of this project, by folded name."""


def unknown_provider(
    name: str, offered: Mapping[str, Iterable[str]], plugins: Iterable[PluginReport]
) -> UnknownProviderError:
    """Return the error for a provider name that nobody offers.

    Args:
        name: what the user typed.
        offered: the names on offer, each with the folded names it answers to.
        plugins: what became of every plugin.
    """
    reports = tuple(plugins)
    folded = normalize_name(name)
    answering = {answer for names in offered.values() for answer in names}
    meant = folded
    if folded not in WELL_KNOWN:
        meant = next(iter(get_close_matches(folded, sorted(answering | WELL_KNOWN.keys()), n=1)), folded)
    broken = disabled = None
    if meant not in answering:
        broken = _culprit((folded, meant), reports, PluginStatus.BROKEN)
        disabled = _culprit((folded, meant), reports, PluginStatus.DISABLED)
    parts = [f"unknown provider {name!r}"]
    if meant != folded:
        parts.append(f"did you mean {meant!r}?")
    install = None
    if broken is not None:
        parts.append(f"the plugin {broken.name!r} ({broken.origin}) would offer it but is broken: {broken.cause}")
    elif disabled is not None:
        parts.append(f"the plugin {disabled.name!r} ({disabled.origin}) would offer it, but {disabled.cause}")
    elif meant not in answering and meant in WELL_KNOWN:
        install = WELL_KNOWN[meant]
        parts.append(f"install it with: pip install {install}")
    elif meant == folded:
        # Whose package has that name is not for us to say: a hint, and no command to paste.
        parts.append(f"install the package that offers it, by convention called {_conventional(name)}")
    parts.append(f"installed: {', '.join(sorted(offered))}" if offered else "no provider is installed")
    if broken is None:
        parts += [f"broken: {r.name} ({r.origin}): {r.cause}" for r in reports if r.status is PluginStatus.BROKEN]
    error = UnknownProviderError(
        "; ".join(parts),
        name=name,
        available=sorted(offered),
        close=meant if meant in answering else None,
        broken=broken.name if broken else None,
        install=install,
    )
    error.__cause__ = broken.error if broken else None
    return error


def _conventional(name: str) -> str:
    return f"gitmachine-{normalize_name(name).replace('_', '-')}"


def _culprit(names: Iterable[str], reports: Iterable[PluginReport], status: PluginStatus) -> PluginReport | None:
    """Return the unusable plugin that would offer one of the names, as far as names tell: it could not be asked."""
    wanted = set(names)
    wanted |= {normalize_name(WELL_KNOWN.get(name, f"gitmachine-{name}")) for name in wanted}
    for report in reports:
        own = {normalize_name(report.name.partition("@")[0]), normalize_name(report.distribution or "")}
        if report.status is status and own & wanted:
            return report
    return None
