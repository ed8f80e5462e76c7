"""Commands that plugins add: asked for when a command is not built in, and for ``--help`` and completion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.messages import explain, say
from gitmachine.errors import ConfigError, GitMachineError, HookError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gitmachine.cli.options import Invocation
    from gitmachine.plugins.host import Implementation, PluginHost

__all__ = ["plugin_commands"]

HOOK = "gitmachine_register_commands"


def plugin_commands(invocation: Invocation | None, built_in: Collection[str]) -> dict[str, click.Command]:
    """Return the commands of all plugins by name; each plugin is asked once in a process.

    What is wrong with a plugin is told on standard error, and the others go on.

    Args:
        invocation: this call of the command line, which remembers the answer.
        built_in: names that no plugin can have.
    """
    if invocation is not None and invocation.extra is not None:
        return invocation.extra
    found: dict[str, click.Command] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    try:
        implementations = _host().implementations(HOOK)
    except GitMachineError as error:  # strict loading
        implementations = ()
        problems.append(explain(error))
    for implementation in implementations:
        origin = f"plugin {implementation.plugin!r} ({implementation.report.origin})"
        try:
            added = _ask(implementation)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any plugin's any error, told against it
            problems.append(f"the commands of {origin} cannot be had: {type(error).__name__}: {error}")
            continue
        for name, command in added.items():
            if name in built_in:
                problems.append(f"{origin} may not replace the built-in command {name!r}")
            elif name in found:
                problems.append(f"{origin} adds the command {name!r}, which {origins[name]} has added already")
            else:
                found[name], origins[name] = _blamed(command, implementation), origin
    if "_GITMACHINE_COMPLETE" not in os.environ:  # a shell that completes shows no errors
        for problem in problems:
            say(problem)
    if invocation is not None:
        invocation.extra = found
    return found


def _host() -> PluginHost:
    from gitmachine.cli.options import load_settings
    from gitmachine.config.installed import plugin_host
    from gitmachine.plugins.host import PluginHost

    try:
        return plugin_host(load_settings(None))
    except ConfigError:
        return PluginHost.default()  # the command that reads the configuration says what is wrong with it


def _ask(implementation: Implementation) -> dict[str, click.Command]:
    from gitmachine.plugins.dispatch import call_now

    group = click.Group()
    call_now(implementation, cli=group)
    return dict(group.commands)


def _blamed(command: click.Command, implementation: Implementation) -> click.Command:
    """Have errors of the command that are not ours told as the plugin's."""
    invoke: Callable[[click.Context], Any] = command.invoke
    report = implementation.report

    def invoked(context: click.Context) -> Any:
        try:
            return invoke(context)
        except (GitMachineError, click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            raise HookError(
                f"the command {context.info_name!r} of plugin {report.name!r} ({report.origin}) failed: "
                f"{type(error).__name__}: {error}",
                plugin=report.name,
                hook=HOOK,
                distribution=report.distribution,
                version=report.version,
            ) from error

    command.invoke = invoked  # type: ignore[method-assign,assignment]  # a command's own class is its plugin's affair
    return command
