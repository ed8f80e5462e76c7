"""The git verbs on a machine of the journal: ``diff commit push pull log status checkpoint checkpoints rollback``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from gitmachine.cli.messages import clean, say
from gitmachine.cli.options import config_option, debug_option, json_option, name_argument
from gitmachine.cli.output import write_bytes, write_json, write_line, write_table
from gitmachine.cli.report import Progress, short
from gitmachine.git.model import PullPolicy

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.outcomes import Checkpoint, PushResult
    from gitmachine.session import AsyncGitMachine

__all__ = ["checkpoint", "checkpoints", "commit", "diff", "pull", "push", "rollback", "status"]

_SHORT = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", "'": "\\'"}


@click.command()
@config_option
@debug_option
@name_argument
def diff(*, name: str, config: Path | None) -> None:
    """Print everything that differs from HEAD in the machine NAME, untracked files too, for `git apply`."""
    from gitmachine.cli.acting import act

    text = act(name, lambda gm: gm.diff(), doing="diff", config=config, adopt=False)
    if sys.stdout is not None and sys.stdout.isatty():
        text = clean(text)  # what is in the files must not act on the terminal; a pipe gets the exact bytes
    write_bytes(text.encode("utf-8", "surrogateescape"))


@click.command()
@click.option("-m", "--message", metavar="TEXT", help="The message; without it the plugins word one.")
@json_option
@config_option
@debug_option
@name_argument
def commit(*, name: str, message: str | None, as_json: bool, config: Path | None) -> None:
    """Commit everything in the machine NAME; the repository's hooks run. Prints the commit."""
    from gitmachine.cli.acting import act

    progress = Progress(quiet=as_json)
    sha = act(name, lambda gm: gm.commit(message), doing="commit", config=config, observe=progress.event)
    if as_json:
        write_json({"sha": sha})
    elif sha is None:
        say("nothing to commit")
    else:
        write_line(sha)


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def push(*, name: str, as_json: bool, config: Path | None) -> None:
    """Publish the commits of the machine NAME, and ask the remote whether it has them. Prints the commit.

    Exits with 3 when the remote did not take them; they are kept on this host then.
    """
    from gitmachine.cli.acting import act

    result: PushResult = act(name, lambda gm: gm.push(), doing="push", config=config)
    if as_json:
        write_json(result)
    else:
        say(f"the remote has {result.branch} at {short(result.remote_sha)} ({result.status})")
        write_line(result.remote_sha)


@click.command()
@click.option(
    "--policy",
    type=click.Choice(get_args(PullPolicy)),
    help="What to do when both sides have commits; without it what the machine was started with: git.pull.",
)
@json_option
@config_option
@debug_option
@name_argument
def pull(*, name: str, policy: PullPolicy | None, as_json: bool, config: Path | None) -> None:
    """Bring what the remote's session branch has into the machine NAME. Prints HEAD."""
    from gitmachine.cli.acting import act

    head = act(name, lambda gm: gm.pull(policy), doing="pull", config=config)
    if as_json:
        write_json({"head": head})
    elif head is not None:
        write_line(head)


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def status(*, name: str, as_json: bool, config: Path | None) -> None:
    """Show the branch, HEAD and what is uncommitted in the machine NAME."""
    from gitmachine.cli.acting import act
    from gitmachine.cli.start import described

    async def work(gm: AsyncGitMachine) -> dict[str, Any]:
        changes = await gm.changes()
        return {
            **await described(gm),
            "changes": [{"status": change.status, "path": change.path} for change in changes.files],
            "nested": list(changes.nested),
            "in_progress": changes.in_progress,
        }

    found = act(name, work, doing="status", config=config, adopt=False)
    if as_json:
        write_json(found)
        return
    write_line(f"{found['name'] or found['machine']} ({found['provider']}) is {found['state']}")
    write_line(f"{found['session']} of {found['repository']} at {short(found['head'])}")
    if found["in_progress"]:
        write_line(f"in progress: {found['in_progress']}")
    for change in found["changes"]:
        write_line(f"{change['status']} {_one_line(change['path'])}")
    for path in found["nested"]:
        write_line(f"? {_one_line(path)} (a repository of its own)")


def _one_line(path: str) -> str:
    """Return a path as it is, or as bash takes it where it would not fit on a line or is not UTF-8."""
    if path.isprintable():
        return path
    return "$'" + "".join(_SHORT.get(one) or (one if one.isprintable() else _escaped(one)) for one in path) + "'"


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


@click.command()
@click.option("-m", "--message", metavar="TEXT", help="What it is for.")
@json_option
@config_option
@debug_option
@name_argument
def checkpoint(*, name: str, message: str | None, as_json: bool, config: Path | None) -> None:
    """Take a snapshot of the whole working tree of the machine NAME; nothing else changes. Prints its number."""
    from gitmachine.cli.acting import act

    skipped: list[str] = []

    def observe(event: str, data: dict[str, Any]) -> None:
        if event == "checkpointed":
            skipped.extend(data["skipped"])

    made = act(name, lambda gm: gm.checkpoint(message), doing="checkpoint", config=config, observe=observe)
    if as_json:
        write_json({**_described(made), "skipped": skipped})
        return
    for path in skipped:
        say(f"left out, too large or unreadable: {_one_line(path)}")
    write_line(str(made.number))


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def checkpoints(*, name: str, as_json: bool, config: Path | None) -> None:
    """List the checkpoints of the machine NAME, the oldest first."""
    from gitmachine.cli.acting import act

    found = act(name, lambda gm: gm.checkpoints(), doing="checkpoints", config=config, adopt=False)
    if as_json:
        write_json({"checkpoints": [_described(one) for one in found]})
    elif found:
        rows = [[str(one.number), f"{one.time:%Y-%m-%d %H:%M:%SZ}", short(one.head), one.message] for one in found]
        write_table(["CHECKPOINT", "TIME", "HEAD", "MESSAGE"], rows)
    else:
        say("no checkpoint")


@click.command()
@json_option
@config_option
@debug_option
@name_argument
@click.argument("number", type=click.IntRange(min=1), metavar="N")
def rollback(*, name: str, number: int, as_json: bool, config: Path | None) -> None:
    """Bring the machine NAME back to checkpoint N, files and branch; what is there now becomes a checkpoint before."""
    from gitmachine.cli.acting import act

    back = act(name, lambda gm: gm.rollback(number), doing="rollback", config=config)
    if as_json:
        write_json(_described(back))
    else:
        say(f"back at checkpoint {back.number} ({back.message}), HEAD at {short(back.head)}")


def _described(made: Checkpoint) -> dict[str, Any]:
    return {
        "number": made.number,
        "sha": made.sha,
        "head": made.head,
        "time": made.time.isoformat(),
        "message": made.message,
    }
