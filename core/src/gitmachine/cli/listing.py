"""``gitmachine providers`` and ``gitmachine plugins``: what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.messages import say
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json, write_table

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["plugins", "providers"]


@click.command()
@json_option
@config_option
@debug_option
def providers(*, as_json: bool, config: Path | None) -> None:
    """List the providers of machines that are installed."""
    from gitmachine.config.installed import plugin_host
    from gitmachine.plugins.host import PluginStatus
    from gitmachine.plugins.registry import Registry
    from gitmachine.provider import CONTRACT

    host = plugin_host(load_settings(config))
    offers = Registry(host).providers()
    names = [name for offer in offers for name in offer.names]
    found: list[dict[str, Any]] = [
        {
            "name": offer.spec.name,
            "summary": offer.spec.summary,
            "aliases": list(offer.spec.aliases),
            "distribution": offer.plugin.distribution,
            "version": offer.plugin.version,
            "plugin": offer.plugin.name,
            "usable": offer.spec.contract == CONTRACT and all(names.count(name) == 1 for name in offer.names),
        }
        for offer in offers
    ]
    broken = [report for report in host.plugins if report.status is PluginStatus.BROKEN]
    if as_json:
        listed = [
            {"name": r.name, "distribution": r.distribution, "version": r.version, "cause": r.cause} for r in broken
        ]
        write_json({"providers": found, "broken": listed})
        return
    rows = [
        [
            item["name"] if item["usable"] else f"{item['name']} (unusable)",
            ", ".join(item["aliases"]),
            f"{item['distribution'] or item['plugin']} {item['version'] or ''}".rstrip(),
            item["summary"],
        ]
        for item in found
    ]
    rows += [[report.name, "", report.origin, f"BROKEN: {report.cause}"] for report in broken]
    if rows:
        write_table(["PROVIDER", "ALIASES", "PACKAGE", "SUMMARY"], rows)
    else:
        say("no provider is installed: pip install gitmachine-local")


@click.command()
@json_option
@config_option
@debug_option
def plugins(*, as_json: bool, config: Path | None) -> None:
    """List the plugins that are installed, what each hooks into, and what became of it."""
    from gitmachine.config.installed import plugin_host
    from gitmachine.plugins.registry import Registry

    host = plugin_host(load_settings(config))
    Registry(host).providers()  # a plugin may turn out to be broken only when it is asked
    if as_json:
        keys = ("name", "distribution", "version", "status", "cause", "hooks", "seconds")
        write_json({"plugins": [{key: getattr(report, key) for key in keys} for report in host.plugins]})
        return
    rows = [
        [
            report.name,
            str(report.status).upper() if report.cause else str(report.status),
            f"{report.distribution or '-'} {report.version or ''}".rstrip(),
            report.cause or ", ".join(hook.removeprefix("gitmachine_") for hook in report.hooks) or "no hooks",
        ]
        for report in host.plugins
    ]
    if rows:
        write_table(["PLUGIN", "STATUS", "PACKAGE", "HOOKS"], rows)
    else:
        say("no plugin is installed")
