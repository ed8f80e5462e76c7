"""A small repository as one pack: one command each way, and git's own protocol for all else. Time budget: 20 s."""

from __future__ import annotations

import attrs
import pytest

from gitmachine.errors import CloneError
from gitmachine.execution import ExecResult
from gitmachine.git import packs
from gitmachine.git.model import GitOptions
from gitmachine.git.store import machine_ref
from support.machines import StreamMachine
from support.repos import git, make_remote, tip


class Recorder(StreamMachine):
    """Knows which commands had a process with live input, which is what git's protocol takes."""

    def __init__(self, root=None):
        super().__init__(root)
        self.lively = []

    async def spawn(self, request):
        if request.open_stdin and request.stdin is None:
            self.lively.append(request.argv)
        return await super().spawn(request)


@pytest.fixture
def remote(tmp_path):
    made = make_remote(tmp_path / "r.git", commits=20)
    git("-C", made, "tag", "-a", "-m", "note", "v1", "main~3")
    git("-C", made, "branch", "other", "main~5")
    return made


async def clone(one, **more):
    await one.transport.open(await one.transport.ask())
    await one.transport.prepare(one.machine, branch="feat", **more)
    return await one.transport.populate(one.machine, one.path, branch="feat", **more)


async def begin(one):
    populated = await clone(one)
    await one.sh(
        f"git config user.name Ada; git config user.email a@b.c; git checkout -q -b feat {populated.start_sha}"
    )


async def test_a_small_repository_is_the_same_by_a_pack_and_by_the_protocol(bench, remote):
    seen = []
    for number in range(2):
        one = await bench(remote, machine=Recorder, session_id=f"s{number}")
        if number == 0:
            await clone(one)
            assert one.machine.lively == []
        else:
            await one.transport.open()
            await one.transport.populate(one.machine, one.path, branch="feat")
            assert len(one.machine.lively) == 1
        await one.sh("git fsck --strict --full")
        refs = await one.sh("git for-each-ref --format='%(objectname) %(refname) %(symref)'")
        config = await one.sh("git config --local --list")
        seen.append((refs, config))
    assert seen[0] == seen[1]
    assert "refs/tags/v1" in seen[0][0]
    assert "refs/remotes/origin/HEAD refs/remotes/origin/main" in seen[0][0]


@pytest.mark.parametrize("bound", ["MAX_PACK_BYTES", "MAX_LIST_BYTES"])
async def test_a_larger_repository_comes_and_goes_by_the_protocol(bench, remote, monkeypatch, bound):
    monkeypatch.setattr(packs, bound, 10)
    one = await bench(remote, machine=Recorder)
    await begin(one)
    assert len(one.machine.lively) == 1
    sha = await one.commit("new.txt")
    await one.collect()
    assert len(one.machine.lively) == 2
    assert await one.transport.store.has(sha)


async def test_a_cut_history_comes_by_the_protocol(bench, remote):
    one = await bench(remote, machine=Recorder, options=GitOptions(depth=1))
    await begin(one)
    assert len(one.machine.lively) == 1
    assert await one.sh("git rev-list --count HEAD") == "1"
    sha = await one.commit("new.txt")
    await one.collect()
    assert await one.transport.store.has(sha)
    git("-C", one.transport.store.path, "fsck", "--strict")


async def test_what_was_prepared_for_another_branch_is_not_used(bench, remote):
    one = await bench(remote)
    await one.transport.open()
    await one.transport.prepare(one.machine, branch="feat")
    populated = await one.transport.populate(one.machine, one.path, branch="other")
    assert (populated.start_sha, populated.upstream) == (tip(remote, "other"), True)


async def test_an_unknown_base_is_refused_while_the_machine_starts(bench, remote):
    one = await bench(remote)
    with pytest.raises(CloneError, match=r"base 'nothing'.*@ git.base"):
        await clone(one, base="nothing")


async def test_a_pack_that_does_not_get_into_the_machine_is_an_error_in_time(bench, remote):
    class Stuck(StreamMachine):
        async def execute(self, request):
            if request.stdin is not None and request.stdin.startswith(b"PACK"):
                request = attrs.evolve(request, argv=("sleep", "1000"), stdin=None)
            return await super().execute(request)

    one = await bench(remote, machine=Stuck)
    with pytest.raises(CloneError, match="took longer than"):
        await clone(one)


async def test_a_pack_that_is_cut_is_noticed(bench, remote):
    class Cutting(StreamMachine):
        async def execute(self, request):
            if request.stdin is not None and request.stdin.startswith(b"PACK"):
                request = attrs.evolve(request, stdin=request.stdin[:-30])
            return await super().execute(request)

    one = await bench(remote, machine=Cutting)
    with pytest.raises(CloneError, match="does not have what was sent"):
        await clone(one)


@pytest.mark.parametrize("files", [1, 150])
async def test_new_work_comes_out_with_one_command_and_is_whole(bench, remote, files):
    one = await bench(remote, machine=Recorder)
    await begin(one)
    await one.sh(f"for n in $(seq {files}); do echo $n > f$n; done; git add -A; git commit -qm work; git stash list")
    survey = await one.collect()
    assert one.machine.lively == []
    store = one.transport.store
    assert await store.refs() == {machine_ref(ref): value for ref, value in survey.refs.items()}
    git("-C", store.path, "fsck", "--strict")
    again = await one.commit("later.txt")
    await one.collect()
    assert await store.has(again)
    assert one.machine.lively == []


@pytest.mark.parametrize("lie", [b"", b"PACK", b"PACK" + bytes(40), b"x" * 1000], ids=["nothing", "head", "zeros", "x"])
async def test_a_machine_that_prints_something_else_is_asked_by_the_protocol(bench, remote, lie):
    class Lying(Recorder):
        async def execute(self, request):
            if "pack-objects" in "".join(request.command):
                return ExecResult(exit_code=0, stdout_bytes=lie)
            return await super().execute(request)

    one = await bench(remote, machine=Lying)
    await begin(one)
    sha = await one.commit("new.txt")
    await one.collect()
    assert len(one.machine.lively) == 1
    assert await one.transport.store.has(sha)


async def test_work_on_commits_that_the_host_lacks_is_not_taken_for_whole(bench, remote):
    class Claiming(Recorder):
        """Packs without the commits that it says the host has."""

        async def execute(self, request):
            if "pack-objects" in "".join(request.command):
                parent = await one.sh("git rev-parse HEAD~1")
                request = attrs.evolve(request, stdin=request.stdin + f"^{parent}\n".encode())
            return await super().execute(request)

    one = await bench(remote, machine=Claiming)
    await begin(one)
    await one.commit("one.txt")
    sha = await one.commit("two.txt")
    await one.collect()
    assert len(one.machine.lively) == 1
    assert await one.transport.store.has(sha)
    git("-C", one.transport.store.path, "fsck", "--strict")
