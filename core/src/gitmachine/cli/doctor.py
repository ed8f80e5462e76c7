"""``gitmachine doctor``: what is here, whether it can work, and what to do when it cannot."""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import click

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import explain
from gitmachine.cli.options import config_option, debug_option, json_option, load_settings
from gitmachine.cli.output import write_json, write_line
from gitmachine.errors import ConfigError, GitMachineError
from gitmachine.provider import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gitmachine.config.model import Settings
    from gitmachine.plugins.host import PluginHost
    from gitmachine.plugins.registry import Registry

__all__ = ["doctor"]

OLDEST_GIT = (2, 34)
"""Older ones lack options that the host's own repositories are protected with; replaying commits needs 2.38."""
GIT_SECONDS = 20
PROVIDER_SECONDS = 90
"""How long a provider may look around."""


@click.command()
@click.argument("provider", required=False)
@click.option("-m", "--machine", metavar="MACHINE", help="Look at a machine of the configuration: [machines.MACHINE].")
@click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of PROVIDER.")
@json_option
@config_option
@debug_option
def doctor(
    *, provider: str | None, machine: str | None, options: tuple[str, ...], as_json: bool, config: Path | None
) -> int:
    """Check this host and the installed providers (or only PROVIDER), with what to do about each finding."""
    if options and provider is None and machine is None:
        raise click.UsageError("-o is an option of a provider: name PROVIDER, or a machine with -m")
    sections: dict[str, list[Check]] = {"host": [_python(), _git(), _places()]}
    settings, finding = _settings(config)
    sections["configuration"] = finding
    sections |= asyncio.run(_installed(settings, provider, machine, options))
    checks = [(section, check) for section, found in sections.items() for check in found]
    healthy = all(check.ok for _section, check in checks)
    if as_json:
        write_json({"ok": healthy, "checks": [{"section": name, **attrs.asdict(check)} for name, check in checks]})
    else:
        _print(sections)
    return Exit.OK if healthy else Exit.FAILURE


def _print(sections: dict[str, list[Check]]) -> None:
    for section, found in sections.items():
        write_line(section)
        for check in found:
            write_line(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name}{f': {check.detail}' if check.detail else ''}")
            if check.fix and not check.ok:
                write_line(f"        {check.fix}")


def _python() -> Check:
    return Check(name="python", ok=sys.version_info >= (3, 11), detail=f"{platform.python_version()} {sys.executable}")


def _git() -> Check:
    fix = "install git 2.38 or newer"
    git = shutil.which("git")
    if git is None:
        return Check(name="git", ok=False, detail="not found on PATH", fix=fix)
    try:
        done = subprocess.run([git, "--version"], capture_output=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name="git", ok=False, detail=f"{git} does not run: {error}", fix=fix)
    text = done.stdout.decode("utf-8", "replace").strip()
    version = re.search(r"(\d+)\.(\d+)", text)
    ok = version is not None and (int(version[1]), int(version[2])) >= OLDEST_GIT
    return Check(name="git", ok=ok, detail=f"{text} ({git})", fix="" if ok else fix)


def _places() -> Check:
    from gitmachine.state.places import Places

    places = Places.default()
    try:
        places.ensure()
    except GitMachineError as error:
        what, _semicolon, fix = str(error).partition("; ")
        return Check(name="places", ok=False, detail=what, fix=fix or "make it writable, or set GITMACHINE_HOME")
    return Check(name="places", ok=True, detail=f"state {places.state}, cache {places.cache}, runtime {places.runtime}")


def _settings(config: Path | None) -> tuple[Settings, list[Check]]:
    """Return the settings, or the defaults when they are wrong, and what was found."""
    from gitmachine.config.installed import check_installed, plugin_host
    from gitmachine.config.model import Settings
    from gitmachine.config.remarks import remarks

    try:
        settings = load_settings(config)
    except ConfigError as error:
        fix = "correct it; `gitmachine config check` looks again"
        return Settings(), [
            Check(name="configuration", ok=False, detail=explain(error).replace("\n", "\n      "), fix=fix)
        ]
    problems = check_installed(settings)
    found = [Check(name="file", ok=True, detail=str(settings.source or "none; the defaults hold"))]
    found += [Check(name="file", ok=False, detail=problem, fix="correct the file") for problem in problems]
    misspelt = remarks(settings, plugin_host(settings))
    found += [Check(name="file", ok=False, detail=remark, fix="correct the file") for remark in misspelt]
    found += [Check(name="environment", ok=False, detail=hint, fix="rename or unset it") for hint in settings.hints]
    return settings, found


def _plugins(host: PluginHost) -> Iterator[Check]:
    from gitmachine.plugins.host import PluginStatus

    for report in host.plugins:
        broken = report.status is PluginStatus.BROKEN
        detail = f"{report.origin}{f': {report.cause}' if report.cause else ''}"
        fix = f"repair it, or disable it with GITMACHINE_DISABLE_PLUGINS={report.name}" if broken else ""
        yield Check(name=report.name, ok=not broken, detail=detail, fix=fix)


async def _installed(
    settings: Settings, provider: str | None, machine: str | None, options: tuple[str, ...]
) -> dict[str, list[Check]]:
    from gitmachine.config.installed import plugin_host
    from gitmachine.config.machines import resolve_machine
    from gitmachine.plugins.registry import Registry

    host = plugin_host(settings)
    registry = Registry(host)
    if machine is not None:
        provider = resolve_machine(settings, provider=provider, machine=machine).provider
    if provider is not None:
        registry.resolve(provider)  # an unknown name is a mistake of the caller, not a finding
    names = [provider] if provider is not None else [offer.spec.name for offer in registry.providers()]
    found = {f"provider {name}": await _provider(registry, settings, name, machine, options) for name in names}
    return {"plugins": list(_plugins(host)), **found}


async def _provider(
    registry: Registry, settings: Settings, name: str, machine: str | None, options: tuple[str, ...]
) -> list[Check]:
    from gitmachine.config.machines import resolve_machine

    try:
        spec = registry.resolve(name)
        chosen = resolve_machine(
            settings,
            provider=name,
            machine=machine,
            options=options,
            aliases=lambda _name: (spec.name, *spec.aliases),
        )
        async with asyncio.timeout(PROVIDER_SECONDS):
            return list(await registry.doctor(name, chosen.options))
    except TimeoutError:
        return [Check(name=name, ok=False, detail=f"no answer within {PROVIDER_SECONDS} s", fix="try again")]
    except GitMachineError as error:
        return [Check(name=name, ok=False, detail=explain(error), fix="see the message")]
