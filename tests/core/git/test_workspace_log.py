"""The history as records.

Time budget: 5 s.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from support.workspaces import IDENTITY, Lab


async def test_an_empty_repository_has_no_history(tmp_path: Path):
    assert await Lab(tmp_path).init().workspace.log() == ()


async def test_commits_come_newest_first_and_exactly(tmp_path: Path):
    lab = Lab(tmp_path).init({"a": "1"})
    first = await lab.workspace.head()
    lab.write({"a": "2"})
    outcome = await lab.workspace.commit("subject\n\nbody with\n\n-- \n%x00 lines\n")
    assert outcome is not None
    newest, oldest = await lab.workspace.log()
    assert (newest.sha, oldest.sha) == (outcome.sha, first)
    assert (newest.author_name, newest.author_email) == (IDENTITY.name, IDENTITY.email)
    assert (newest.subject, newest.body) == ("subject", "body with\n\n-- \n%x00 lines\n")
    assert newest.time.tzinfo is UTC
    assert oldest.body == ""


async def test_a_limit_and_a_start_bound_the_history(tmp_path: Path):
    lab = Lab(tmp_path).init({"a": "1"})
    for number in range(5):
        lab.git("commit", "-q", "--allow-empty", "-m", f"commit {number}")
    assert [commit.subject for commit in await lab.workspace.log(2)] == ["commit 4", "commit 3"]
    since = lab.git("rev-parse", "HEAD~2")
    assert [commit.subject for commit in await lab.workspace.log(since=since)] == ["commit 4", "commit 3"]


async def test_the_machines_configuration_does_not_change_it(tmp_path: Path):
    lab = Lab(tmp_path).init({"a": "1"})
    lab.git("notes", "add", "-m", "a note")
    (lab.path / ".mailmap").write_text("Nobody <nobody@example.org> <ada@example.org>\n")
    for name, value in {"log.mailmap": "true", "log.follow": "true", "log.date": "raw", "log.decorate": "full"}.items():
        lab.git("config", name, value)
    (only,) = await lab.workspace.log()
    assert (only.subject, only.body) == ("initial", "")
    assert only.author_name != "Nobody"
