"""Rescue bundles clone by themselves and hold everything. Time budget: 30 s."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from gitmachine.errors import GitError, StateError
from gitmachine.git.model import GitOptions
from gitmachine.git.rescue import drop_rescue, list_rescues
from support.repos import git, make_remote, show


@pytest.fixture
def bundles(tmp_path):
    return tmp_path / "rescue"


async def rescued(one, bundles, sha, **more):
    details = {"branch": "feat", "reason": "the push failed", "machine_kept": True, **more}
    return await one.transport.store.rescue(bundles=bundles, sha=sha, **details)


@pytest.mark.parametrize("depth", [None, 1])
async def test_a_bundle_clones_alone_even_of_a_shallow_machines_work(bench, tmp_path, bundles, depth):
    one = await bench(make_remote(tmp_path / "r.git", commits=15), options=GitOptions(depth=depth))
    await one.begin()
    sha = await one.commit("precious.txt")
    await one.sh("git branch side && git init -q in && cd in && git commit -q --allow-empty -m nested")
    await one.collect("in")
    made = await rescued(one, bundles, sha)
    assert made.bundle is not None
    assert stat.S_IMODE(Path(made.bundle).stat().st_mode) == 0o600
    for place in ("mirrors", "sessions", "r.git"):
        (tmp_path / place).rename(tmp_path / f"gone-{place}")
    git("clone", "-q", made.bundle, tmp_path / "clone")
    assert git("-C", tmp_path / "clone", "rev-parse", "HEAD") == sha
    assert git("-C", tmp_path / "clone", "branch", "--show-current") == "feat"
    assert git("-C", tmp_path / "clone", "rev-list", "--count", "HEAD") == "16"
    assert show(tmp_path / "clone", "HEAD:precious.txt") == "work"
    heads = git("ls-remote", made.bundle)
    assert "refs/machine/heads/side" in heads
    assert "refs/machine/nested/" in heads


async def test_rescues_are_listed_and_dropped(bench, tmp_path, bundles):
    one = await bench(make_remote(tmp_path / "r.git"))
    await one.begin()
    sha = await one.commit("precious.txt")
    await one.collect()
    first = await rescued(one, bundles, sha)
    sha = await one.commit("more.txt")
    await one.collect()
    second = await rescued(one, bundles, sha, machine_kept=False)
    saved = list_rescues(bundles)
    assert [entry.rescue for entry in saved] == [first, second]
    drop_rescue(bundles, saved[0].name)
    assert [entry.rescue for entry in list_rescues(bundles)] == [second]
    assert not Path(first.bundle).exists()
    with pytest.raises(StateError, match="no rescue is called 'x'"):
        drop_rescue(bundles, "x")
    assert not [path for path in bundles.iterdir() if path.suffix in (".part", ".new") or path.name.startswith("proof")]


async def test_the_same_work_rescued_again_is_one_rescue(bench, tmp_path, bundles):
    one = await bench(make_remote(tmp_path / "r.git"))
    await one.begin()
    sha = await one.commit("precious.txt")
    await one.collect()
    first = await rescued(one, bundles, sha)
    second = await rescued(one, bundles, sha, machine_kept=False)
    assert second.bundle == first.bundle
    assert [entry.rescue for entry in list_rescues(bundles)] == [second]
    Path(first.bundle).write_bytes(Path(first.bundle).read_bytes()[:-30])  # damaged: never taken for the work
    third = await rescued(one, bundles, sha)
    assert third.bundle != first.bundle
    assert show(tmp_path / "sessions/s1.git", f"{third.sha}:precious.txt") == "work"


async def test_nothing_collected_makes_no_bundle(bench, tmp_path, bundles):
    one = await bench(make_remote(tmp_path / "r.git"))
    await one.transport.open()
    made = await rescued(one, bundles, None)
    assert made.bundle is None
    assert [entry.rescue for entry in list_rescues(bundles)] == [made]


async def test_work_that_is_not_complete_is_never_called_rescued(bench, tmp_path, bundles):
    one = await bench(make_remote(tmp_path / "r.git"))
    await one.begin()
    sha = await one.commit("precious.txt", "lost content\n")
    await one.collect()
    pack = next((one.transport.store.path / "objects").rglob("*.pack"), None)
    if pack is not None:
        pack.unlink()
    else:
        loose = git("-C", one.transport.store.path, "rev-parse", f"{sha}:precious.txt")
        (one.transport.store.path / "objects" / loose[:2] / loose[2:]).unlink()
    with pytest.raises(GitError):
        await rescued(one, bundles, sha)
    assert list_rescues(bundles) == ()


async def test_a_reason_is_redacted(bench, tmp_path, bundles):
    one = await bench(make_remote(tmp_path / "r.git"))
    one.transport.setup.redactor.add("canary-token")
    await one.transport.open()
    assert (await rescued(one, bundles, None, reason="no canary-token")).reason == "no ***"


def test_a_record_that_cannot_be_read_is_named(bundles):
    bundles.mkdir()
    (bundles / "x.json").write_text(json.dumps({"time": 1}))
    with pytest.raises(StateError, match=r"x\.json"):
        list_rescues(bundles)
    assert list_rescues(bundles / "none") == ()
