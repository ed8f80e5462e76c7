"""Work that the remote rejected is listed, looked at, published from this host, and dropped only when it is published.

Time budget: 30 s.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gitmachine.errors import CloneError, ConfigError, PushRejectedError, StateError
from gitmachine.state.places import Places
from gitmachine.upkeep import drop_rescue, push_rescue, rescues, show_rescue
from support.repos import git, show, tip


async def test_a_rescue_is_listed_with_what_it_is_and_where_it_belongs(rejected, remote: Path) -> None:
    (work,) = await rescues()
    assert work.branch == "feature"
    assert work.remote == f"file://{remote}"
    assert "other commits" in work.reason
    assert work.machine_kept
    assert work.machine == "mine"
    assert work.published is None
    assert work.bundle is not None
    assert work.size_bytes == Path(work.bundle).stat().st_size > 0
    assert json.loads(json.dumps(work.as_dict()))["name"] == work.name


async def test_a_rescue_shows_its_commits_and_what_they_change(rejected) -> None:
    (work,) = await rescues()
    details = await show_rescue(work.name)
    assert [commit.subject for commit in details.commits] == ["auto: checkpoint"]
    assert [(change.status, change.path) for change in details.files] == [("A", "mine.txt")]
    assert [item.name for item in details.kept] == ["feature"]
    assert json.loads(json.dumps(details.as_dict()))["files"][0]["path"] == "mine.txt"


async def test_a_rescue_is_published_to_another_branch_and_marked(rejected, remote: Path) -> None:
    (work,) = await rescues()
    with pytest.raises(PushRejectedError):
        await push_rescue(work.name)
    assert tip(remote, "feature") == rejected.theirs

    result = await push_rescue(work.name, branch="feature-mine")

    assert result.branch == "feature-mine"
    assert show(remote, "feature-mine:mine.txt") == "my work"
    (work,) = await rescues()
    assert work.published is not None
    assert (work.published.branch, work.published.sha) == ("feature-mine", tip(remote, "feature-mine"))
    assert (await show_rescue(work.name)).kept == ()


async def test_a_rescue_outlives_its_machine_and_even_its_session_repository(rejected, remote: Path) -> None:
    await rejected.gm.stop(force=True)
    first, *_ = await rescues()
    assert not first.machine_kept
    shutil.rmtree(first.repository)

    await push_rescue(first.name, branch="back")

    assert show(remote, "back:mine.txt") == "my work"


async def test_uncommitted_changes_of_a_rescue_can_be_published_by_their_ref(make, remote: Path) -> None:
    gm = make(auto_commit=False)
    await gm.start()
    await gm.write_file("mine.txt", "uncommitted")
    await gm.stop(force=True)
    (work,) = await rescues()
    (kept,) = (await show_rescue(work.name)).kept
    assert kept.kind == "changes"

    await push_rescue(work.name, branch="changes", ref=kept.ref)

    assert show(remote, "changes:mine.txt") == "uncommitted"


async def test_a_ref_that_a_rescue_does_not_have_is_refused_with_those_it_has(rejected) -> None:
    (work,) = await rescues()
    with pytest.raises(StateError, match="refs/machine/heads/feature"):
        await push_rescue(work.name, ref="refs/machine/heads/nothing")
    with pytest.raises(ConfigError):
        await push_rescue(work.name, branch="--upload-pack=x")


async def test_a_rescue_is_dropped_only_when_it_is_published_or_by_force(rejected, remote: Path) -> None:
    (work,) = await rescues()
    with pytest.raises(StateError, match=r"the remote lacks: branch feature"):
        await drop_rescue(work.name)
    await push_rescue(work.name, branch="feature-mine")

    await drop_rescue(work.name)

    assert await rescues() == ()
    assert list(Places.default().bundles.iterdir()) == []
    assert Path(work.repository).is_dir(), "the machine still needs it"


async def test_a_rescue_dropped_by_force_takes_the_repository_that_nobody_needs_with_it(rejected) -> None:
    await rejected.gm.stop(force=True)
    for work in await rescues():
        await drop_rescue(work.name, force=True)
    assert await rescues() == ()
    assert not Path(work.repository).exists()
    assert list(Places.default().sessions.iterdir()) == []


async def test_a_rescue_is_found_by_the_beginning_of_its_name_and_missed_by_a_message_that_lists_them(rejected) -> None:
    (work,) = await rescues()
    assert (await show_rescue(work.name[:6])).work.name == work.name
    with pytest.raises(StateError, match=work.name):
        await show_rescue("nothing")
    with pytest.raises(StateError, match="there are"):
        await drop_rescue("")


async def test_a_rescue_whose_remote_is_gone_stays_as_it_is(rejected, remote: Path) -> None:
    (work,) = await rescues()
    git("-C", remote, "rev-parse", "HEAD")
    remote.rename(remote.with_name("moved.git"))
    with pytest.raises(CloneError, match="does not exist"):
        await push_rescue(work.name)
    assert (await rescues())[0].published is None
    remote.with_name("moved.git").rename(remote)
