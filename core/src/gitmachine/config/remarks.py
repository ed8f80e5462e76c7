"""What in a configuration is no error, and hardly what was meant: names that are nearly those of what is installed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from gitmachine.config.text import join
from gitmachine.provider import normalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gitmachine.config.model import Settings
    from gitmachine.plugins.host import PluginHost

__all__ = ["remarks"]

CLOSE = 0.8
"""How alike two names have to be: a file is shared among hosts, and may well name what is not installed on this one."""


def remarks(settings: Settings, host: PluginHost) -> tuple[str, ...]:
    """Return a remark for each table that nobody reads because its provider's or plugin's name is misspelt.

    Nothing else would tell: a table of a provider that is not installed here stops nobody.
    """
    from gitmachine.plugins.hints import WELL_KNOWN
    from gitmachine.plugins.registry import Registry

    if not (settings.providers or settings.machines or _plugin_names(settings)):
        return ()
    offers = Registry(host).providers()
    providers = {name for offer in offers for name in (offer.spec.name, *offer.spec.aliases)} | WELL_KNOWN.keys()
    plugins = {name for report in host.plugins for name in (report.name, report.distribution) if name is not None}
    named = [(name, join("providers", name)) for name in settings.providers]
    named += [
        (str(table["provider"]), f"{join('machines', name)}.provider")
        for name, table in settings.machines.items()
        if "provider" in table
    ]
    return (
        *_misspelt("provider", named, providers),
        *_misspelt("plugin", _plugin_names(settings), plugins),
    )


def _plugin_names(settings: Settings) -> list[tuple[str, str]]:
    chosen = settings.plugins
    named = [(name, join("plugins.options", name)) for name in chosen.options]
    named += [(name, "plugins.disable") for name in chosen.disable]
    return named + [(name, "plugins.enable") for name in chosen.enable or ()]


def _misspelt(what: str, named: Iterable[tuple[str, str]], known: Iterable[str]) -> Iterator[str]:
    folded = {normalize_name(name): name for name in known}
    for name, path in named:
        close = get_close_matches(normalize_name(name), folded, n=1, cutoff=CLOSE)
        if close and normalize_name(name) not in folded:
            yield f"no {what} {name!r} is installed @ {path}: did you mean {folded[close[0]]!r}?"
