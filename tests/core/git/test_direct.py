"""The direct transport: git in the machine talks to the remote, with a credential for one process at a time.

Time budget: 120 s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gitmachine.errors import CloneError
from gitmachine.git.model import GitOptions
from support.gitserver import Mischief, serving
from support.machines import FilesMachine, StreamMachine
from support.repos import add_commit, git, make_empty_remote, make_remote, tip

TOKEN = "canary-token-0006"
MACHINES = pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])
DIRECT = GitOptions(transport="direct")
pytestmark = pytest.mark.requires("git-http-backend")


@pytest.fixture
def remote(tmp_path):
    (tmp_path / "srv").mkdir()
    made = make_remote(tmp_path / "srv" / "r.git", commits=40)
    git("-C", made, "config", "uploadpack.allowFilter", "true")
    git("-C", made, "tag", "-a", "-m", "one", "v1", "main~3")
    return made


@pytest.fixture
def server(tmp_path, remote):
    with serving(tmp_path / "srv", token=TOKEN) as running:
        yield running


@MACHINES
async def test_the_whole_way_with_the_canary_nowhere(bench, server, remote, tmp_path, machine):
    one = await bench(f"{server.url}/r.git", machine=machine, token=TOKEN, options=DIRECT)
    seen: set[bytes] = set()
    watcher = asyncio.ensure_future(_sample(seen))
    try:
        populated = await one.begin()
        assert (populated.start_sha, populated.created) == (tip(remote, "main"), True)
        assert await one.sh("git status --porcelain") == ""
        sha = await one.commit("new.txt")
        await one.collect()
        result = await one.transport.publish(sha, "feat")
        theirs = add_commit(remote, "main", {"x": b"1"})
        await one.transport.refresh(one.machine, one.path)
    finally:
        watcher.cancel()
    assert (result.status, result.remote_sha, tip(remote, "feat")) == ("pushed", sha, sha)
    assert await one.sh("git rev-parse origin/main") == theirs
    assert await one.sh("git for-each-ref --format='%(refname)' refs/tags") == "refs/tags/v1"
    assert [text for text in seen if b"cat <&3" in text]
    assert not [text for text in seen if TOKEN.encode() in text]
    assert TOKEN not in await one.sh("env; cat .git/config")
    for place in (tmp_path / "mirrors", tmp_path / "sessions", Path(one.machine.workdir)):
        files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


async def _sample(seen: set[bytes]) -> None:
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            for part in ("cmdline", "environ"):
                try:
                    seen.add((process / part).read_bytes())
                except OSError:
                    continue
        await asyncio.sleep(0.005)


@MACHINES
@pytest.mark.parametrize("options", [{"depth": 1}, {"filter": "blob:none"}])
async def test_a_shallow_or_partial_clone_checks_out_works_and_comes_back(bench, server, remote, machine, options):
    one = await bench(
        f"{server.url}/r.git", machine=machine, token=TOKEN, options=GitOptions(transport="direct", **options)
    )
    await one.begin()
    assert await one.sh("git status --porcelain") == ""
    sha = await one.commit("new.txt")
    await one.collect()
    assert await one.transport.store.has(sha)
    assert git("-C", one.transport.store.path, "rev-list", "--count", sha) == "41"
    assert (await one.transport.publish(sha, "feat")).remote_sha == sha
    await one.transport.refresh(one.machine, one.path)


@MACHINES
async def test_a_base_is_found_in_the_machine(bench, server, remote, machine):
    one = await bench(f"{server.url}/r.git", machine=machine, token=TOKEN, options=DIRECT)
    old = git("-C", remote, "rev-parse", "main~9")
    await one.transport.open()
    for number, (base, sha) in enumerate({"v1": git("-C", remote, "rev-parse", "main~3"), old[:10]: old}.items()):
        populated = await one.transport.populate(one.machine, f"{one.path}{number}", branch="feat", base=base)
        assert populated.start_sha == sha
    for number, base in enumerate(("nonsense", "f" * 40, "--all"), start=10):
        with pytest.raises(CloneError, match="neither a branch nor a tag nor a commit"):
            await one.transport.populate(one.machine, f"{one.path}{number}", branch="feat", base=base)


async def test_an_existing_session_and_an_empty_repository(bench, server, remote, tmp_path):
    sha = add_commit(remote, "feat", {"x": b"1"}, start=tip(remote, "main"))
    one = await bench(f"{server.url}/r.git", token=TOKEN, options=DIRECT)
    populated = await one.begin()
    assert (populated.start_sha, populated.created, populated.upstream) == (sha, False, True)
    make_empty_remote(tmp_path / "srv" / "empty.git")
    two = await bench(f"{server.url}/empty.git", token=TOKEN, options=DIRECT, session_id="s2")
    assert (await two.begin()).start_sha is None
    first = await two.commit("first.txt")
    await two.collect()
    assert (await two.transport.publish(first, "feat")).remote_sha == first


async def test_refusals_are_the_same_as_from_the_host(bench, server, remote):
    one = await bench(f"{server.url}/r.git", token="wrong-token", options=DIRECT)
    with pytest.raises(CloneError, match="did not accept the credential"):
        await one.transport.open()
    one = await bench(f"{server.url}/r.git", token=TOKEN, options=DIRECT)
    await one.transport.open()
    server.misbehave(Mischief.UNAUTHORIZED)
    with pytest.raises(CloneError, match="did not accept the credential") as caught:
        await one.transport.populate(one.machine, one.path, branch="feat")
    assert TOKEN not in str(caught.value)
    server.misbehave(Mischief.FAIL)
    with pytest.raises(CloneError, match="cannot be reached"):
        await one.transport.populate(one.machine, f"{one.path}2", branch="feat")


async def test_a_redirect_by_the_agents_configuration_gets_no_credential(bench, server, remote, tmp_path):
    one = await bench(f"{server.url}/r.git", token=TOKEN, options=DIRECT)
    await one.begin()
    with serving(tmp_path / "srv", token=TOKEN) as theirs:
        await one.sh(f"git config url.{theirs.url}/.insteadOf {server.url}/")
        add_commit(remote, "main", {"x": b"1"})
        with pytest.raises(CloneError):
            await one.transport.refresh(one.machine, one.path)
        assert theirs.requests
        assert not any(theirs.authorizations)


async def test_a_remote_that_moves_between_question_and_fetch_is_asked_again(bench, server, remote):
    one = await bench(f"{server.url}/r.git", token=TOKEN, options=DIRECT)
    await one.transport.open()
    newer = add_commit(remote, "main", {"x": b"1"})
    populated = await one.transport.populate(one.machine, one.path, branch="feat")
    assert populated.start_sha == newer
