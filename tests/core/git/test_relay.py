"""The relay end to end, over streams and as bundles: same steps, same results.

Time budget: 120 s.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import attrs
import pytest

from gitmachine.errors import CloneError
from gitmachine.git.model import GitOptions
from gitmachine.machine import Capability
from support.bench import QUICK
from support.gitserver import serving
from support.machines import FilesMachine, StreamMachine
from support.repos import EXECUTABLE, NON_ASCII, SYMLINK, add_commit, git, make_empty_remote, make_remote, tip

TOKEN = "canary-token-0003"


class HalfMachine(StreamMachine):
    """Live processes, but their input cannot be ended: in as a bundle, out over the stream (as E2B)."""

    capabilities = frozenset({Capability.SPAWN})
    bulk_in = "files"


MACHINES = pytest.mark.parametrize("machine", [StreamMachine, FilesMachine, HalfMachine])
SMALL_PARTS = attrs.evolve(QUICK, part_bytes=2000)


@MACHINES
async def test_a_new_session_starts_from_the_default_branch(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git", commits=1100, branch="trunk")
    git("-C", remote, "tag", "-a", "-m", "one", "v1", "trunk")
    one = await bench(remote, machine=machine)
    populated = await one.begin()
    assert (populated.branch_sha, populated.start_sha) == (None, tip(remote, "trunk"))
    assert (populated.created, populated.upstream) == (True, False)
    assert await one.sh("git status --porcelain") == ""
    assert await one.sh("git rev-list --count HEAD") == "1100"
    refs = (await one.sh("git for-each-ref --format='%(refname)'")).splitlines()
    assert refs == ["refs/heads/feat", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk", "refs/tags/v1"]
    assert await one.sh("git symbolic-ref refs/remotes/origin/HEAD") == "refs/remotes/origin/trunk"
    assert await one.sh("git config remote.origin.url") == str(remote)
    place = Path(one.path)
    assert (place / EXECUTABLE).stat().st_mode & 0o111
    assert (place / SYMLINK).is_symlink()
    assert (place / NON_ASCII).read_text() == "grüße\n"
    assert await one.sh("git fsck --strict 2>&1 | grep -v '^notice' || true") == ""


@MACHINES
async def test_an_existing_session_continues(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git")
    sha = add_commit(remote, "feat", {"x": b"1"}, start=tip(remote, "main"))
    populated = await (await bench(remote, machine=machine)).begin()
    assert populated.branch_sha == populated.start_sha == sha
    assert (populated.created, populated.upstream) == (False, True)


@MACHINES
async def test_an_empty_repository_gets_its_first_commit(tmp_path, bench, machine):
    remote = make_empty_remote(tmp_path / "r.git")
    one = await bench(remote, machine=machine)
    populated = await one.begin()
    assert (populated.start_sha, populated.created) == (None, True)
    sha = await one.commit("first.txt")
    await one.collect()
    result = await one.transport.publish(sha, "feat")
    assert tip(remote, "feat") == sha == result.remote_sha


@MACHINES
async def test_work_comes_back_is_published_and_the_machine_follows(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git", commits=50)
    one = await bench(remote, machine=machine, limits=SMALL_PARTS)
    await one.begin()
    await one.sh("head -c 30000 /dev/urandom > blob.bin")
    sha = await one.commit("new.txt")
    await one.sh("git branch other && git tag -a -m mine mine")
    await one.collect()
    assert await one.transport.store.has(sha)
    result = await one.transport.publish(sha, "feat")
    assert (result.status, result.commits, tip(remote, "feat")) == ("pushed", 1, sha)
    assert (await one.transport.publish(sha, "feat")).status == "up_to_date"
    theirs = add_commit(remote, "feat", {"theirs": b"1"})
    git("-C", remote, "tag", "v2", "main")
    git("-C", remote, "branch", "extra", "main")
    await one.transport.refresh(one.machine, one.path)
    assert await one.sh("git rev-parse origin/feat") == theirs
    git("-C", remote, "branch", "-D", "extra")
    git("-C", remote, "branch", "extra/below", "main")
    await one.transport.refresh(one.machine, one.path)
    refs = (await one.sh("git for-each-ref --format='%(refname)'")).splitlines()
    assert "refs/remotes/origin/extra/below" in refs
    assert "refs/remotes/origin/extra" not in refs
    assert {"refs/tags/mine", "refs/tags/v2"} <= set(refs)
    assert not [ref for ref in refs if ref.startswith("refs/gitmachine/")]


@MACHINES
@pytest.mark.parametrize("depth", [None, 1])
async def test_a_mirror_that_another_session_moves_meanwhile_does_no_harm(tmp_path, bench, machine, depth):
    remote = make_remote(tmp_path / "r.git")
    git("-C", remote, "branch", "old", "main")
    first = tip(remote, "main")
    one = await bench(remote, machine=machine, options=GitOptions(depth=depth))
    await one.transport.open()
    git("-C", remote, "branch", "-D", "old")
    git("-C", remote, "branch", "old/below", "main")
    add_commit(remote, "main", {"x": b"1"})
    git("-C", remote, "tag", "-a", "-m", "new", "v1", "main")
    other = await bench(remote, machine=machine, session_id="s2")
    await other.transport.open()
    await one.transport.populate(one.machine, one.path, branch="feat")
    refs = await one.sh("git for-each-ref --format='%(objectname) %(refname)'")
    names = {"refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/old"}
    assert set(refs.splitlines()) == {f"{first} {name}" for name in names}


@MACHINES
async def test_a_tag_of_the_agents_own_is_not_overwritten(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git")
    one = await bench(remote, machine=machine)
    await one.begin()
    mine = await one.sh("git tag v1 HEAD~1 && git rev-parse v1")
    git("-C", remote, "tag", "v1", "main")
    await one.transport.refresh(one.machine, one.path)
    assert await one.sh("git rev-parse v1") == mine


@MACHINES
async def test_depth_limits_what_travels_and_work_comes_back_all_the_same(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git", commits=60)
    one = await bench(remote, machine=machine, options=GitOptions(depth=2))
    await one.begin()
    assert await one.sh("git rev-list --count HEAD") == "2"
    assert await one.sh("git status --porcelain") == ""
    sha = await one.commit("new.txt")
    await one.collect()
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha
    assert git("-C", remote, "rev-list", "--count", "feat") == "61"
    assert not (one.transport.store.path / "shallow").exists()
    newer = add_commit(remote, "main", {"x": b"1"})
    await one.transport.refresh(one.machine, one.path)
    assert await one.sh("git rev-parse origin/main") == newer


@MACHINES
@pytest.mark.parametrize("depth", [None, 1])
async def test_a_base_is_a_branch_a_tag_or_a_commit(tmp_path, bench, machine, depth):
    remote = make_remote(tmp_path / "r.git", commits=9)
    git("-C", remote, "tag", "-a", "-m", "one", "v1", "main~2")
    add_commit(remote, "topic", {"x": b"1"}, start=tip(remote, "main"))
    old = git("-C", remote, "rev-parse", "main~5")
    expected = {"topic": tip(remote, "topic"), "v1": git("-C", remote, "rev-parse", "main~2"), old: old, old[:12]: old}
    one = await bench(remote, machine=machine, options=GitOptions(depth=depth))
    await one.transport.open()
    for number, (base, sha) in enumerate(expected.items()):
        path = f"{one.path}{number}"
        populated = await one.transport.populate(one.machine, path, branch="feat", base=base)
        assert populated.start_sha == sha
        await one.sh(f'git checkout -q -b feat {sha} && test -z "$(git status --porcelain)"', cwd=path)


async def test_an_unknown_base_is_named(tmp_path, bench):
    remote = make_remote(tmp_path / "r.git")
    stray = git("-C", remote, "commit-tree", "-m", "stray", "main^{tree}")
    one = await bench(remote)
    for base in ("nonsense", "--all", "f" * 40, stray, "main~1", "$(touch x)"):
        with pytest.raises(CloneError, match="neither a branch nor a tag nor a commit") as caught:
            await one.begin(base=base)
        assert repr(base) in str(caught.value)


async def test_a_session_that_cannot_stand_beside_a_branch_is_refused(tmp_path, bench):
    remote = make_remote(tmp_path / "r.git")
    git("-C", remote, "branch", "agent/x", "main")
    one = await bench(remote)
    with pytest.raises(CloneError, match="cannot stand beside the branch 'agent/x'"):
        await one.begin(branch="agent")


@MACHINES
async def test_a_path_that_is_not_empty_is_refused(tmp_path, bench, machine):
    one = await bench(make_remote(tmp_path / "r.git"), machine=machine)
    await one.machine.write_file(f"{one.path}/mine.txt", "precious")
    with pytest.raises(CloneError, match="is not empty"):
        await one.begin()
    assert await one.machine.read_file(f"{one.path}/mine.txt") == b"precious"


@MACHINES
async def test_a_path_that_looks_like_an_option_or_a_script(tmp_path, bench, machine):
    remote = make_remote(tmp_path / "r.git")
    one = await bench(remote, machine=machine)
    one.path = f"{one.machine.workdir}/-x $(touch ran) 'ü"
    await one.begin()
    sha = await one.commit("new.txt")
    await one.collect()
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha
    await one.transport.refresh(one.machine, one.path)
    assert not list(Path(one.machine.workdir).rglob("ran"))


@MACHINES
async def test_a_machine_without_git_says_so(tmp_path, bench, machine):
    one = await bench(make_remote(tmp_path / "r.git"), machine=machine)
    one.machine.environment = lambda _request: {"PATH": "/nonexistent"}
    real = one.machine.execute
    # sh itself must be found for the script to say what is missing.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "mkdir", "ls", "cat"):
        found = subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True).stdout
        (programs / name).symlink_to(found.strip())
    one.machine.environment = lambda _request: {"PATH": str(programs)}
    assert (await real(attrs.evolve(_request("git version")))).exit_code == 127
    with pytest.raises(CloneError, match="git is not installed in the machine"):
        await one.begin()


def _request(script):
    from gitmachine.execution import ExecRequest

    return ExecRequest(shell=script)


@pytest.mark.requires("git-http-backend")
@pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])
async def test_the_canary_is_nowhere_and_the_machine_needs_no_network(tmp_path, bench, machine):
    (tmp_path / "srv").mkdir()
    make_remote(tmp_path / "srv" / "r.git", commits=200)
    seen: set[bytes] = set()
    with serving(tmp_path / "srv", token=TOKEN) as server:
        one = await bench(f"{server.url}/r.git", machine=machine, token=TOKEN)
        watcher = asyncio.ensure_future(_sample(seen))
        try:
            await one.begin()
            sha = await one.commit("new.txt")
            await one.collect()
            await one.transport.publish(sha, "feat")
            await one.transport.refresh(one.machine, one.path)
        finally:
            watcher.cancel()
        environment = await one.sh("env; cat .git/config")
    assert [text for text in seen if b"credential.http://127.0.0.1" in text]  # git was seen while it had the credential
    assert not [text for text in seen if TOKEN.encode() in text]
    assert TOKEN not in environment
    assert await one.sh("git config remote.origin.url") == f"{server.url}/r.git"
    for place in (tmp_path / "mirrors", tmp_path / "sessions", Path(one.machine.workdir)):
        files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
        assert files
        assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


async def _sample(seen: set[bytes]) -> None:
    """Keep what every process shows of itself while git runs."""
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            for part in ("cmdline", "environ"):
                try:
                    seen.add((process / part).read_bytes())
                except OSError:
                    continue
        await asyncio.sleep(0.005)


async def test_a_second_session_cannot_see_what_the_first_one_made(tmp_path, bench):
    remote = make_remote(tmp_path / "r.git")
    first, second = await bench(remote, session_id="s1"), await bench(remote, session_id="s2")
    await first.begin()
    secret = await first.commit("secret.txt")
    await first.collect()
    await second.begin(branch="other")
    assert await second.sh(f"git cat-file -e {secret}; echo $?") != "0"
    refs = await second.sh("git for-each-ref")
    assert secret not in refs
