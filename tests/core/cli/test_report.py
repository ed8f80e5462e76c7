"""What a run tells, for people and for programs. Time budget: 1 s."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from gitmachine.cli.output import plain
from gitmachine.cli.report import Outcome, Progress, document, last_line, receipt_lines
from gitmachine.outcomes import Kept, KeptKind, PushResult, PushStatus, Receipt, Rescue, Withheld

SHA = "0123456789abcdef0123456789abcdef01234567"


def receipt(**changes: object) -> Receipt:
    values: dict[str, object] = {"branch": "feat", "local_sha": SHA, "remote_sha": SHA, "pushed": True}
    return Receipt(**{**values, **changes})  # type: ignore[arg-type]


def test_a_receipt_is_told_line_by_line() -> None:
    kept = Kept(kind=KeptKind.NESTED, name="sub", sha=SHA, commits=1)
    withheld = Withheld(path=".env", reason="looks like a secret")
    outcome = Outcome(
        provider="local",
        key="0a1b",
        receipt=receipt(kept=(kept,), withheld=(withheld,), ignored=2),
        hint="the network is off",
    )
    assert receipt_lines(outcome) == [
        "the remote has feat at 0123456789",
        "only on this host: nested sub at 0123456789, 1 commit",
        "left out: .env: looks like a secret",
        "to have what was left out: gitmachine withheld restore 0a1b",
        "2 ignored files ended with the machine",
        "hint: the network is off",
    ]


def test_many_kept_things_are_summed_up() -> None:
    kept = tuple(Kept(kind=KeptKind.BRANCH, name=f"b{number}", sha=SHA) for number in range(50))
    lines = receipt_lines(Outcome(provider="local", receipt=receipt(kept=kept)))
    assert len(lines) == 22
    assert lines[-1] == "only on this host: 30 more"


@pytest.mark.parametrize(("bundle", "where"), [("/r/x.bundle", "/r/x.bundle"), (None, "/s/x.git")])
def test_a_receipt_whose_work_was_only_rescued_says_where_it_is(bundle: str | None, where: str) -> None:
    rescue = Rescue(
        repository="/s/x.git",
        bundle=bundle,
        sha=SHA,
        branch="feat",
        reason="rejected",
        machine_kept=False,
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    lines = receipt_lines(Outcome(provider="local", receipt=receipt(pushed=False, remote_sha=None, rescue=rescue)))
    assert lines[0] == f"not published: the work is safe in {where}, and `gitmachine rescue` lists, shows and pushes it"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"local_sha": None, "remote_sha": None, "pushed": False}, "the repository has no commit"),
        ({"remote_sha": None, "pushed": False}, "nothing was changed"),
    ],
)
def test_a_receipt_without_a_push_says_why(changes: dict[str, object], line: str) -> None:
    assert receipt_lines(Outcome(provider="local", receipt=receipt(**changes)))[0].startswith(line)


def test_a_kept_machine_is_told() -> None:
    push = PushResult(status=PushStatus.PUSHED, branch="feat", local_sha=SHA, remote_sha=SHA)
    outcome = Outcome(provider="local", push=push, machine="m-1", machine_kept=True)
    assert receipt_lines(outcome) == ["the remote has feat at 0123456789", "the machine is kept: m-1"]


def test_a_machine_whose_work_was_not_published_says_how_to_try_again() -> None:
    outcome = Outcome(provider="local", name="a b", machine_kept=True, status=123)
    assert receipt_lines(outcome)[-1] == "to try again when the cause is gone: gitmachine stop 'a b'"


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(provider="x", exit_code=0), None),
        (Outcome(provider="x"), None),
        (Outcome(provider="x", exit_code=7), "the command exited with 7"),
        (Outcome(provider="x", exit_code=7, error="not published"), "not published; the command exited with 7"),
        (Outcome(provider="x", exit_code=0, error="not published"), "not published; the command exited with 0"),
        (Outcome(provider="x", exit_code=137, timed_out=True, error="timeout of 1 s"), "timeout of 1 s"),
    ],
)
def test_the_last_line_says_why_with_the_commands_code(outcome: Outcome, line: str | None) -> None:
    assert last_line(outcome) == line


def test_the_document_has_every_promised_key() -> None:
    found = document(Outcome(provider="local", exit_code=0, stdout="o", stderr="e", receipt=receipt()))
    assert {"exit_code", "stdout", "stderr", "branch", "local_sha", "remote_sha", "pushed"} <= found.keys()
    assert (found["branch"], found["local_sha"], found["remote_sha"], found["pushed"]) == ("feat", SHA, SHA, True)
    assert json.loads(json.dumps(plain(found)))["receipt"]["pushed"] is True


def test_the_document_of_a_failed_push_says_where_the_work_is() -> None:
    rescue = Rescue(
        repository="/r", bundle="/b", sha=SHA, branch="feat", reason="no", machine_kept=True, time=datetime.now(UTC)
    )
    outcome = Outcome(provider="local", session="feat", rescue=rescue, machine_kept=True, status=123)
    found = json.loads(json.dumps(plain(document(outcome))))
    assert (found["branch"], found["pushed"], found["local_sha"], found["remote_sha"]) == ("feat", False, SHA, None)
    assert found["rescue"]["bundle"] == "/b"


def test_progress_is_lines_and_quiet_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    loud, quiet = Progress(quiet=False), Progress(quiet=True)
    for progress in (loud, quiet):
        progress.event("cloned", {"branch": "feat", "sha": SHA, "created": True})
        progress.event("committed", {"sha": SHA, "message": "one\x1b[2J\n\ntwo"})
        progress.event("stopped", {})
    assert capfd.readouterr().err == (
        "gitmachine: new session branch feat at 0123456789\ngitmachine: committed 0123456789: one\ufffd[2J\n"
    )
