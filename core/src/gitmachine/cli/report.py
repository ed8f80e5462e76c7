"""What a run tells: progress and the receipt for people, one document for programs."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.cli.exits import Exit
from gitmachine.cli.messages import say

if TYPE_CHECKING:
    from gitmachine.git.model import Commit
    from gitmachine.outcomes import Kept, PushResult, Receipt, Rescue
    from gitmachine.plugins.dispatch import HookFailure

__all__ = ["Outcome", "Progress", "commit_line", "document", "last_line", "receipt_lines", "short", "size"]

SHORT_SHA = 10
_LISTED = 20


@attrs.define(kw_only=True)
class Outcome:
    """What is known of a run, filled in as it goes on.

    Attributes:
        status: what the program exits with.
        exit_code: the command's own code, or None when it did not end by itself.
        error: why the run did not end well, in one line, or None.
        hook_failures: errors of observers, which stopped nothing.
    """

    provider: str
    status: int = 0
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    timed_out: bool = False
    duration: float | None = None
    repository: str | None = None
    session: str | None = None
    machine: str | None = None
    name: str | None = None
    key: str | None = None
    machine_kept: bool = False
    receipt: Receipt | None = None
    push: PushResult | None = None
    rescue: Rescue | None = None
    unpublished: tuple[Kept, ...] = ()
    hint: str | None = None
    error: str | None = None
    hook_failures: tuple[HookFailure, ...] = ()


class Progress:
    """Lines on standard error about what happens."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str) -> None:
        """Tell something, unless quiet."""
        if not self.quiet:
            say(text)

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Tell what an event means for people."""
        if name == "cloned":
            at = f" at {short(data['sha'])}" if data["sha"] else ", without any commit yet"
            self.line(f"{'new ' if data['created'] else ''}session branch {data['branch']}{at}")
        elif name == "committed":
            self.line(f"committed {short(data['sha'])}: {data['message'].splitlines()[0] if data['message'] else ''}")
        elif name == "withheld":
            paths = ", ".join(file["path"] for file in data["files"])
            self.line(f"left out of the commit and kept on this host: {paths}")
        elif name == "lost":
            self.line(f"the machine is lost: {data['reason']}")


def short(sha: str | None) -> str:
    """Return the beginning of an object id."""
    return sha[:SHORT_SHA] if sha else "nothing"


def commit_line(commit: Commit) -> str:
    """Return a commit on one line."""
    return f"{short(commit.sha)} {commit.time:%Y-%m-%d %H:%M:%SZ} {commit.author_name}: {commit.subject}"


def size(number: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the one JSON document of a run."""
    receipt, push = outcome.receipt, outcome.push
    source = receipt or push
    rescue = outcome.rescue or (receipt.rescue if receipt else None)
    return {
        "exit_code": outcome.exit_code,
        "status": outcome.status,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "truncated": outcome.truncated,
        "timed_out": outcome.timed_out,
        "duration": outcome.duration,
        "repository": outcome.repository,
        "session": outcome.session,
        "branch": source.branch if source else outcome.session,
        "local_sha": source.local_sha if source else (rescue.sha if rescue else None),
        "remote_sha": source.remote_sha if source else None,
        "pushed": receipt.pushed if receipt else push is not None,
        "kept": receipt.kept if receipt else outcome.unpublished,
        "rescue": rescue,
        "receipt": receipt.as_dict() if receipt else None,
        "provider": outcome.provider,
        "machine": outcome.machine,
        "name": outcome.name,
        "key": outcome.key,
        "machine_kept": outcome.machine_kept,
        "withheld": receipt.withheld if receipt else (),
        "hook_failures": outcome.hook_failures,
        "hint": outcome.hint,
        "error": outcome.error,
    }


def receipt_lines(outcome: Outcome) -> list[str]:
    """Return the receipt for people."""
    lines = []
    receipt, push = outcome.receipt, outcome.push
    if receipt is not None:
        if receipt.pushed:
            lines.append(f"the remote has {receipt.branch} at {short(receipt.remote_sha)}")
        elif receipt.local_sha is None:
            lines.append("the repository has no commit, and nothing was made: nothing was pushed")
        elif receipt.rescue is None:
            lines.append("nothing was changed: nothing was pushed")
        else:
            where = receipt.rescue.bundle or receipt.rescue.repository
            lines.append(
                f"not published: the work is safe in {where}, and `gitmachine rescue` lists, shows and pushes it"
            )
        lines += [f"only on this host: {_kept(item)}" for item in receipt.kept[:_LISTED]]
        if len(receipt.kept) > _LISTED:
            lines.append(f"only on this host: {len(receipt.kept) - _LISTED} more")
        lines += [f"left out: {item.path}: {item.reason}" for item in receipt.withheld[:_LISTED]]
        if receipt.withheld:
            lines.append(f"to have what was left out: gitmachine withheld restore {outcome.key}")
        if receipt.ignored:
            lines.append(f"{_count(receipt.ignored, 'ignored file')} ended with the machine")
    elif push is not None:
        lines.append(f"the remote has {push.branch} at {short(push.remote_sha)}")
    if outcome.machine_kept:
        machine = outcome.name or outcome.machine
        lines.append(f"the machine is kept: {machine}")
        if outcome.status == Exit.RUN_KEPT:
            lines.append(f"to try again when the cause is gone: gitmachine stop {shlex.quote(machine or '')}")
    if outcome.hint:
        lines.append(f"hint: {outcome.hint}")
    return lines


def _kept(item: Kept) -> str:
    commits = f", {_count(item.commits, 'commit')}" if item.commits else ""
    return f"{item.kind} {item.name} at {short(item.sha)}{commits}"


def last_line(outcome: Outcome) -> str | None:
    """Return why the run did not end well, with the command's code; None when it did."""
    code = outcome.exit_code
    if outcome.error is not None:
        ended = "" if code is None or outcome.timed_out else f"; the command exited with {code}"
        return outcome.error + ended
    return f"the command exited with {code}" if code else None
