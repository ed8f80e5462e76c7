"""Git LFS is noticed before an agent takes pointers for files. Time budget: 30 s."""

from __future__ import annotations

import stat

import pytest

from gitmachine.errors import CloneError
from gitmachine.git.lfs import POINTER
from gitmachine.git.model import GitOptions
from support.machines import FilesMachine, StreamMachine
from support.repos import add_commit, make_remote

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
TRANSPORTS = pytest.mark.parametrize("transport", ["relay", "direct"])


@pytest.fixture
def remote(tmp_path):
    made = make_remote(tmp_path / "r.git")
    pointer = f"{POINTER}\noid sha256:{'0' * 64}\nsize 5\n".encode()
    add_commit(made, "main", {"assets/.gitattributes": ATTRIBUTES, "assets/a.bin": pointer, "assets/b.bin": pointer})
    return made


@TRANSPORTS
async def test_pointers_are_refused_by_default_with_the_way_out(bench, remote, transport):
    one = await bench(remote, options=GitOptions(transport=transport))
    with pytest.raises(CloneError, match=r"'assets/a\.bin' and 1 more.*'skip'"):
        await one.begin()


@TRANSPORTS
async def test_skip_leaves_the_pointers(bench, remote, transport):
    one = await bench(remote, options=GitOptions(transport=transport, lfs="skip"))
    await one.begin()
    assert await one.sh("head -1 assets/a.bin") == POINTER
    assert await one.sh("git status --porcelain") == ""
    await one.commit("assets/new.bin", "not a pointer\n")
    assert await one.sh("git show HEAD:assets/new.bin") == "not a pointer"


@TRANSPORTS
async def test_fetch_says_what_it_needs(bench, remote, transport):
    one = await bench(remote, options=GitOptions(transport=transport, lfs="fetch"))
    needs = "the relay cannot bring" if transport == "relay" else "git-lfs is not installed in the machine"
    one.machine.environment = _without_lfs(one.machine.environment, one.root)
    with pytest.raises(CloneError, match=needs):
        await one.begin()


def _without_lfs(real, root):
    """The machine's environment with a git that has no lfs, whatever this host has."""
    program = root / "bin" / "git"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = lfs ] && exit 1\nPATH=${PATH#*:} exec git "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def environment(request):
        found = real(request)
        return {**found, "PATH": f"{program.parent}:{found['PATH']}"}

    return environment


@TRANSPORTS
async def test_attributes_without_pointers_are_no_obstacle(bench, tmp_path, transport):
    made = make_remote(tmp_path / "r.git")
    add_commit(made, "main", {".gitattributes": ATTRIBUTES, "note.txt": f"about {POINTER}\n".encode()[6:][:10]})
    one = await bench(made, options=GitOptions(transport=transport))
    assert (await one.begin()).created


@pytest.mark.requires("git-lfs")
@pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])
async def test_direct_with_git_lfs_brings_the_files_and_pushes_new_ones(bench, tmp_path, machine):
    remote = make_remote(tmp_path / "r.git")
    maker = await bench(f"file://{remote}", machine=machine, options=GitOptions(transport="direct", lfs="fetch"))
    await maker.begin(branch="with-lfs")
    await maker.sh("git lfs install --local --skip-repo && git lfs track '*.bin' && printf data > a.bin")
    sha = await maker.commit("note.txt")
    assert (await maker.sh("git show HEAD:a.bin")).startswith(POINTER)
    await maker.collect()
    await maker.transport.publish(sha, "with-lfs")
    options = GitOptions(transport="direct", lfs="fetch", base="with-lfs")
    other = await bench(f"file://{remote}", machine=machine, options=options, session_id="s2")
    await other.begin(branch="feat", base="with-lfs")
    assert await other.sh("cat a.bin; git status --porcelain") == "data"
