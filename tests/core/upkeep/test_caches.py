"""What this host keeps is shown with sizes, and pruned without ever touching the only copy.

Time budget: 30 s.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from gitmachine.state.places import Places
from gitmachine.upkeep import cache_usage, drop_rescue, prune_cache, push_rescue, rescues
from support.repos import show


def age(path: Path, days: float = 100) -> None:
    """Make a repository look as if nobody had touched it for long."""
    stamp = path.stat().st_mtime - days * 86400
    for part in (path, path / "objects", path / "objects/pack", path / "refs"):
        if part.exists():
            os.utime(part, (stamp, stamp))


def age_all() -> None:
    places = Places.default()
    for path in [*places.sessions.glob("*.git"), *places.mirrors.glob("*.git")]:
        age(path)


async def test_usage_lists_mirrors_session_repositories_and_bundles_with_their_sizes(rejected, remote: Path) -> None:
    usage = await cache_usage()
    assert [entry.kind for entry in usage.entries] == ["mirror", "session", "bundle"]
    assert all(entry.size_bytes > 0 for entry in usage.entries)
    assert {entry.repository for entry in usage.entries} == {f"file://{remote}"}
    assert usage.total_bytes == sum(usage.bytes_of(kind) for kind in ("mirror", "session", "bundle"))
    mirror, session, bundle = usage.entries
    assert "built on it" in (mirror.needed or "")
    assert "is live" in (session.needed or "")
    assert "is live" in (bundle.needed or "")
    assert json.loads(json.dumps(usage.as_dict()))["total_bytes"] == usage.total_bytes


async def test_nothing_of_a_live_machine_or_an_unpublished_rescue_is_pruned(rejected) -> None:
    age_all()
    assert not any(one.removed for one in await prune_cache(max_age_days=0, max_bytes=0))
    await rejected.gm.stop(force=True)
    age_all()
    pruned = await prune_cache(max_age_days=0, max_bytes=0)
    assert not any(one.removed for one in pruned)
    assert any("the remote lacks its work: branch feature" in one.why for one in pruned)


async def test_what_is_published_goes_by_age_and_the_mirror_after_what_is_built_on_it(make, remote: Path) -> None:
    gm = make()
    await gm.start()
    await gm.write_file("mine.txt", "my work")
    await gm.stop()
    assert show(remote, "feature:mine.txt") == "my work"
    assert not any(one.removed for one in await prune_cache(max_age_days=30))
    age_all()

    told = await prune_cache(max_age_days=30, dry_run=True)
    assert [one.removed for one in told] == [True, True]
    assert len((await cache_usage()).entries) == 2

    pruned = await prune_cache(max_age_days=30)
    assert [(one.entry.kind, one.removed) for one in pruned] == [("session", True), ("mirror", True)]
    assert (await cache_usage()).entries == ()
    assert list(Places.default().sessions.iterdir()) == []

    again = make(session="another")
    await again.start()
    await again.stop()


async def test_the_least_recently_used_goes_until_the_rest_fits(make) -> None:
    for session in ("one", "two"):
        gm = make(session=session)
        await gm.start()
        await gm.write_file("mine.txt", session)
        await gm.stop()
    first, second = sorted(Places.default().sessions.glob("*.git"), key=lambda path: path.stat().st_mtime)
    age(first, days=1)
    usage = await cache_usage()
    size = next(entry.size_bytes for entry in usage.entries if entry.path == str(first))

    pruned = await prune_cache(max_age_days=None, max_bytes=usage.total_bytes - size)

    assert [one.entry.path for one in pruned if one.removed] == [str(first)]
    assert second.is_dir()


async def test_a_published_rescue_goes_with_its_session_repository(rejected) -> None:
    await rejected.gm.stop(force=True)
    saved = await rescues()
    await push_rescue(saved[0].name, branch="feature-mine")
    age_all()
    pruned = await prune_cache(max_age_days=0, max_bytes=0)
    assert all(one.removed for one in pruned), pruned
    assert await rescues() == ()
    assert list(Places.default().sessions.iterdir()) == []


async def test_a_mirror_that_a_process_is_updating_is_left_alone(make) -> None:
    gm = make()
    await gm.start()
    await gm.stop()
    age_all()
    (mirror,) = Places.default().mirrors.glob("*.git")
    held = os.open(mirror.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        pruned = await prune_cache(max_age_days=30)
    finally:
        os.close(held)
    assert [(one.entry.kind, one.removed) for one in pruned] == [("session", True), ("mirror", False)]
    assert "updating" in pruned[1].why
    assert mirror.is_dir()


async def test_a_rescue_without_its_session_repository_is_the_only_copy(rejected) -> None:
    await rejected.gm.stop(force=True)
    work, *others = await rescues()
    for other in others:
        await drop_rescue(other.name, force=True)
    import shutil

    shutil.rmtree(work.repository)
    pruned = await prune_cache(max_age_days=0, max_bytes=0)
    kept = next(one for one in pruned if one.entry.kind == "bundle")
    assert not kept.removed
    assert "only copy" in kept.why
