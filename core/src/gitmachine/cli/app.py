"""The group of all commands, loaded one by one, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from gitmachine import __version__
from gitmachine.cli.exits import Exit, exit_code
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import Invocation, LogLines, debug_option
from gitmachine.cli.output import OutputClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "cli", "run"]

COMMANDS = {
    "attach": "gitmachine.cli.runs:attach",
    "cache": "gitmachine.cli.cache:cache",
    "checkpoint": "gitmachine.cli.git:checkpoint",
    "checkpoints": "gitmachine.cli.git:checkpoints",
    "commit": "gitmachine.cli.git:commit",
    "completion": "gitmachine.cli.completion:completion",
    "config": "gitmachine.cli.configuration:config",
    "connect": "gitmachine.cli.start:connect",
    "cp": "gitmachine.cli.copying:cp",
    "diff": "gitmachine.cli.git:diff",
    "doctor": "gitmachine.cli.doctor:doctor",
    "exec": "gitmachine.cli.execution:execute",
    "fork": "gitmachine.cli.copies:fork",
    "gc": "gitmachine.cli.upkeep:gc",
    "log": "gitmachine.cli.history:log",
    "logs": "gitmachine.cli.history:logs",
    "ls": "gitmachine.cli.inventory:ls",
    "new-plugin": "gitmachine.cli.scaffold:new_plugin",
    "new-provider": "gitmachine.cli.scaffold:new_provider",
    "pause": "gitmachine.cli.lifecycle:pause",
    "plugins": "gitmachine.cli.listing:plugins",
    "port": "gitmachine.cli.ports:port",
    "providers": "gitmachine.cli.listing:providers",
    "pull": "gitmachine.cli.git:pull",
    "push": "gitmachine.cli.git:push",
    "rescue": "gitmachine.cli.upkeep:rescue",
    "resume": "gitmachine.cli.lifecycle:resume",
    "rollback": "gitmachine.cli.git:rollback",
    "run": "gitmachine.cli.run:run",
    "runs": "gitmachine.cli.runs:runs",
    "shell": "gitmachine.cli.shell:shell",
    "show": "gitmachine.cli.inventory:show",
    "snapshot": "gitmachine.cli.copies:snapshot",
    "snapshots": "gitmachine.cli.copies:snapshots",
    "spawn": "gitmachine.cli.runs:spawn",
    "start": "gitmachine.cli.start:start",
    "status": "gitmachine.cli.git:status",
    "stop": "gitmachine.cli.lifecycle:stop",
    "withheld": "gitmachine.cli.withheld:withheld",
}
"""Each command and where it is."""


class _Commands(click.Group):
    """Imports a command's module when the command is used, and asks the plugins for one that is not built in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *_extra(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return _extra(ctx).get(cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, each in one line; no command's module is needed for that."""
        from gitmachine.cli.overview import OVERVIEW, PLUGINS

        added = {name: command.get_short_help_str(formatter.width) for name, command in sorted(_extra(ctx).items())}
        for section, commands in {**OVERVIEW, PLUGINS: added}.items():
            if commands:
                with formatter.section(section):
                    formatter.write_dl(list(commands.items()), col_max=12)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and args[0] not in _extra(ctx):
            from gitmachine.config.problems import suggest

            ctx.fail(f"no command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _extra(ctx: click.Context) -> dict[str, click.Command]:
    from gitmachine.cli.extra import plugin_commands

    return plugin_commands(ctx.find_object(Invocation), COMMANDS)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, "-V", "--version", message="gitmachine %(version)s")
@debug_option
def cli() -> None:
    """Run commands on a git repository inside an isolated machine; the work comes back as commits."""


def run(args: Sequence[str]) -> int:
    """Run the command line and return the exit code; nothing is raised."""
    invocation = Invocation(debug=os.environ.get("GITMACHINE_DEBUG", "").strip() not in ("", "0"))
    log = LogLines(invocation)
    logging.getLogger("gitmachine").addHandler(log)
    try:
        code = cli.main(args=list(args), prog_name="gitmachine", standalone_mode=False, obj=invocation)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except click.UsageError as error:
        say(f"{_lower(error.format_message())} (see: {_path(error, args)} --help)")
        return Exit.USAGE
    except click.ClickException as error:
        say(_lower(error.format_message()))
        return Exit.USAGE
    except (OutputClosed, BrokenPipeError):
        _silence_stdout()
        return Exit.BROKEN_PIPE
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # told in one sentence, a mistake of ours too; with the traceback on request
        if invocation.debug:
            show_traceback(error)
        say(explain(error))
        return exit_code(error)
    finally:
        logging.getLogger("gitmachine").removeHandler(log)
    return code if isinstance(code, int) else Exit.OK


def _path(error: click.UsageError, args: Sequence[str]) -> str:
    """Return the command whose help has more; click does not know it for an option that lacks its value."""
    if error.ctx is not None:
        return error.ctx.command_path
    return " ".join(["gitmachine", *(word for word in args[:1] if word in COMMANDS)])


_PLAIN = {
    "is not a valid integer range": "is not a valid whole number",
    "is not a valid float range": "is not a valid number",
}
"""How click calls what a number has to be, and what people call it."""


def _lower(message: str) -> str:
    """Return click's message as one of ours: on one line, in lower case, without a full stop."""
    text = " ".join(message.split())
    for theirs, ours in _PLAIN.items():
        text = text.replace(theirs, ours)
    return (text[:1].lower() + text[1:]).rstrip(".")


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing."""
    with contextlib.suppress(OSError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.close(sink)
