"""The guard in sessions: what it keeps out, what it stops, and that nothing of it is lost.

Time budget: 40 s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, GitOptions, GuardOptions, PluginHost, PushVetoed
from gitmachine.machine import MachineState
from gitmachine.outcomes import KeptKind
from gitmachine.plugins import guard
from gitmachine.state.memory import recall
from gitmachine.state.places import Places
from gitmachine.upkeep import cache_usage, drop_withheld, prune_cache, restore_withheld, withheld
from support.machines import FilesMachine
from support.repos import git, show, tip

Make = Callable[..., AsyncGitMachine]
BODY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt\n" * 3
KEY = "-----BEGIN OPENSSH PRIVATE" + f" KEY-----\n{BODY}-----END OPENSSH PRIVATE" + " KEY-----\n"
SMALL = GuardOptions(max_file_bytes=100_000)


def guarded() -> PluginHost:
    host = PluginHost(entry_points=())
    host.register(guard, "guard")
    return host


async def test_secrets_and_large_files_stay_out_of_the_commit_are_reported_and_given_back(
    make: Make, any_machine: FilesMachine, remote: Path, tmp_path: Path
) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    gm = make(
        any_machine,
        plugins=guarded(),
        guard=SMALL,
        on_event=lambda event, data, _gm: events.append((event, data)),
    )
    await gm.start()
    await gm.write_file("deep/key", KEY)
    await gm.run("head -c 200000 /dev/zero >large; echo fine >fine")
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.pushed
    assert {file.path: (file.reason, file.plugin) for file in receipt.withheld} == {
        "deep/key": ("it seems to hold a private key", "guard"),
        "large": ("it is larger than 100000 bytes (200000 bytes)", "guard"),
    }
    assert [kept.kind for kept in receipt.kept] == [KeptKind.WITHHELD]
    assert show(remote, "feature:fine") == "fine"
    names = git("-C", remote, "ls-tree", "-r", "--name-only", "feature").splitlines()
    assert {"deep/key", "large"}.isdisjoint(names)
    assert "PRIVATE" not in git("-C", remote, "cat-file", "--batch-all-objects", "--batch")
    (told,) = [data for event, data in events if event == "withheld"]
    assert {file["path"] for file in told["files"]} == {"deep/key", "large"}
    restored = await restore_withheld("feature", tmp_path / "back")
    assert [one.problem for one in restored] == [None, None]
    assert (tmp_path / "back" / "deep" / "key").read_text() == KEY
    assert (tmp_path / "back" / "large").read_bytes() == bytes(200_000)


async def test_this_host_keeps_what_was_withheld_until_it_is_dropped(make: Make, remote: Path) -> None:
    gm = make(plugins=guarded())
    async with gm:
        await gm.write_file("key", KEY)
    (kept,) = await withheld()
    assert (kept.key, kept.branch, kept.path, kept.restorable) == (gm.key, "feature", "key", True)
    assert not any(done.removed for done in await prune_cache(max_age_days=0.0, max_bytes=0))
    assert [one.path for one in await drop_withheld(gm.key[:6])] == ["key"]
    assert await withheld() == ()
    assert [entry.needed for entry in (await cache_usage()).entries if entry.kind == "session"] == [None]


async def test_a_tracked_file_stays_as_it_was(make: Make, remote: Path) -> None:
    gm = make(plugins=guarded())
    async with gm:
        await gm.write_file("README.md", KEY)
        await gm.write_file("other", "x")
    assert show(remote, "feature:README.md") == "# Sample"
    assert show(remote, "feature:other") == "x"


async def test_what_is_withheld_stays_in_the_machine_and_is_withheld_again(make: Make, remote: Path) -> None:
    gm = make(plugins=guarded())
    await gm.start()
    await gm.write_file("key", KEY)
    await gm.pause()
    await gm.resume()
    assert await gm.read_text("key") == KEY
    await gm.write_file("fine", "x")
    receipt = await gm.stop()
    assert receipt is not None
    assert [file.path for file in receipt.withheld] == ["key"]


async def test_a_secret_that_is_removed_again_is_in_the_list_of_this_host_only(make: Make) -> None:
    gm = make(plugins=guarded())
    await gm.start()
    await gm.write_file("key", KEY)
    await gm.pause()
    await gm.resume()
    await gm.run("rm key")
    receipt = await gm.stop()
    assert receipt is not None
    assert receipt.withheld == ()
    assert [one.path for one in await withheld()] == ["key"]


@pytest.mark.parametrize("transport", ["relay", "direct"])
async def test_a_secret_that_the_agent_committed_itself_stops_the_push(
    make: Make, remote: Path, transport: Any
) -> None:
    gm = make(plugins=guarded(), git=GitOptions(transport=transport))
    await gm.start()
    await gm.write_file("deep/key", KEY)
    script = "git add -A && git commit -qm mine && git rm -q deep/key && git commit -qm gone && echo x >later"
    await gm.run(script, check=True)
    culprit = (await gm.log(2))[1].sha
    with pytest.raises(PushVetoed, match="'deep/key' in commit") as caught:
        await gm.stop()
    assert culprit[:12] in str(caught.value)
    assert "a private key" in str(caught.value)
    assert BODY[:40] not in str(caught.value)
    assert gm.state is MachineState.RUNNING
    assert caught.value.rescue is not None
    receipt = await gm.stop(force=True)
    assert receipt is not None
    assert receipt.rescue is not None
    assert "private key" in receipt.rescue.reason
    assert receipt.rescue.bundle is not None
    assert git("bundle", "list-heads", receipt.rescue.bundle)
    with pytest.raises(AssertionError):
        tip(remote, "feature")


async def test_an_explicit_commit_takes_everything_and_its_push_is_stopped(make: Make) -> None:
    gm = make(plugins=guarded(), guard=SMALL)
    await gm.start()
    await gm.run("head -c 200000 /dev/zero >large")
    assert await gm.commit("all of it") is not None
    with pytest.raises(PushVetoed, match="larger than 100000 bytes"):
        await gm.push()


async def test_what_is_allowed_goes_through_both(make: Make, remote: Path) -> None:
    gm = make(plugins=guarded(), guard=GuardOptions(allow=("fixtures/",)))
    async with gm:
        await gm.write_file("fixtures/key", KEY)
    assert show(remote, "feature:fixtures/key") == KEY.rstrip("\n")


async def test_secrets_that_the_remote_has_already_are_its_own_affair(make: Make, remote: Path) -> None:
    async with make(plugins=PluginHost(entry_points=())) as gm:
        await gm.write_file("key", KEY)
    gm = make(FilesMachine(), plugins=guarded())
    async with gm:
        await gm.write_file("fine", "x")
    assert gm.receipt is not None
    assert (gm.receipt.pushed, gm.receipt.withheld) == (True, ())


async def test_the_guards_settings_are_kept_for_whoever_goes_on_with_the_session(make: Make, remote: Path) -> None:
    gm = make(plugins=guarded(), guard=GuardOptions(allow=("key",)))
    await gm.start()
    assert gm.guard.allow == ("key",)
    assert (await recall(Places.default(), gm.key)).guard == gm.guard
    await gm.stop()


async def test_a_guard_that_cannot_look_lets_the_commit_be_made_and_looks_before_the_push(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitmachine.git.guarding._VET", "exit 7")
    gm = make(plugins=guarded())
    await gm.start()
    await gm.write_file("key", KEY)
    with pytest.raises(PushVetoed, match="private key"):
        await gm.stop()
    assert [failure.plugin for failure in gm.hook_failures] == ["guard"]
