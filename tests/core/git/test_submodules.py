"""Submodules, through the host and directly; and what a stranger's .gitmodules may not make us do.

Time budget: 60 s.
"""

from __future__ import annotations

import attrs
import pytest

from gitmachine.errors import CloneError
from gitmachine.git.credentials import no_credential
from gitmachine.git.model import FoundRepository, GitCredential, GitOptions, Operation
from gitmachine.git.names import check_repository
from gitmachine.git.submodules import parse_submodules, scoped_credentials
from support.gitserver import serving
from support.machines import FilesMachine, StreamMachine
from support.repos import git, make_remote, tip

TOKEN = "canary-token-0005"


def add_submodule(remote, address, path, *, resolve=None):
    """Commit a gitlink and its address to a bare repository."""
    target = resolve or remote.parent / f"{address.rsplit('/', 1)[-1]}"
    sha = tip(target, "main")
    known = git("-C", remote, "show", "main:.gitmodules", check=False)
    text = f'{known}\n[submodule "{path}"]\n\tpath = {path}\n\turl = {address}\n'

    def run(*args, stdin=None):
        return git("-C", remote, *args, stdin=stdin)

    blob = run("hash-object", "-w", "--stdin", stdin=text.encode())
    listing = run("ls-tree", "main").splitlines()
    top, _, rest = path.partition("/")
    if rest:
        tree = run("mktree", "--missing", stdin=f"160000 commit {sha}\t{rest}\n".encode())
        entry = f"040000 tree {tree}\t{top}"
    else:
        entry = f"160000 commit {sha}\t{top}"
    kept = [line for line in listing if not line.endswith(("\t.gitmodules", f"\t{top}"))]
    lines = [*kept, f"100644 blob {blob}\t.gitmodules", entry]
    tree = run("mktree", "--missing", stdin=("\n".join(lines) + "\n").encode())
    commit = run("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "submodule", "-p", "main", tree)
    run("update-ref", "refs/heads/main", commit)
    return sha


@pytest.fixture
def srv(tmp_path):
    place = tmp_path / "srv"
    place.mkdir()
    for name in ("r", "sub", "deep"):
        make_remote(place / f"{name}.git", commits=4)
    add_submodule(place / "sub.git", "../deep.git", "de ep")
    add_submodule(place / "r.git", "../sub.git", "lib/sub")
    return place


async def checked_out(one):
    populated = await one.begin()
    return await one.transport.populate_submodules(one.machine, one.path, populated.start_sha)


@pytest.mark.requires("git-http-backend")
@pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])
@pytest.mark.parametrize("transport", ["relay", "direct"])
async def test_submodules_are_checked_out_at_their_commits_however_deep(bench, srv, machine, transport):
    with serving(srv, token=TOKEN) as server:
        options = GitOptions(transport=transport, submodules=True)
        one = await bench(f"{server.url}/r.git", machine=machine, token=TOKEN, options=options)
        assert await checked_out(one) == ("lib/sub", "lib/sub/de ep")
        assert await one.sh("git status --porcelain --ignore-submodules=none") == ""
        status = await one.sh("git submodule status --recursive")
        assert [line.split()[0] for line in status.splitlines()] == [
            tip(srv / "sub.git", "main"),
            tip(srv / "deep.git", "main"),
        ]
        assert await one.sh("cat README.md", cwd=f"{one.path}/lib/sub/de ep") == "# Sample"
        assert await one.sh("git config remote.origin.url", cwd=f"{one.path}/lib/sub") == f"{server.url}/sub.git"
        assert TOKEN not in await one.sh("find .git -name config -exec cat {} +")


async def test_an_untouched_submodule_is_no_work_and_commits_in_one_are(bench, srv):
    one = await bench(srv / "r.git", options=GitOptions(submodules=True))
    await checked_out(one)
    survey = await one.survey("lib/sub")
    module = FoundRepository(path="lib/sub", kind="submodule")
    survey = attrs.evolve(survey, repositories=(survey.repositories[0], module))
    await one.transport.collect(one.machine, one.path, survey)
    assert await one.transport.store.unpublished(one.transport.remote_state, "feat") == ()
    sha = await one.sh(
        "git checkout -q -b mine && git commit -q --allow-empty -m inside && git rev-parse HEAD",
        cwd=f"{one.path}/lib/sub",
    )
    again = attrs.evolve(await one.survey("lib/sub"), repositories=survey.repositories)
    await one.transport.collect(one.machine, one.path, again)
    kept = await one.transport.store.unpublished(one.transport.remote_state, "feat")
    assert [(entry.kind, entry.path, entry.sha, entry.commits) for entry in kept] == [("submodule", "lib/sub", sha, 1)]


async def test_a_submodule_that_cannot_be_had_is_named(bench, srv):
    add_submodule(srv / "r.git", "../gone.git", "missing", resolve=srv / "sub.git")
    one = await bench(srv / "r.git")
    with pytest.raises(CloneError, match=r"the submodule 'missing' cannot be had: .*does not exist"):
        await checked_out(one)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ext::sh -c 'touch x'", "remote helpers"),
        ("-u./x", "starts with '-'"),
        ("../../elsewhere/secret.git", "only paths beside"),
        ("git@other-host:x/y.git", "another host"),
        ("http://127.0.0.1:1/internal.git", "another host"),
    ],
)
async def test_an_address_that_would_reach_too_far_is_refused(bench, srv, tmp_path, address, why):
    (tmp_path / "elsewhere").mkdir()
    make_remote(tmp_path / "elsewhere" / "secret.git", commits=1)
    add_submodule(srv / "r.git", address, "evil", resolve=srv / "sub.git")
    one = await bench(srv / "r.git")
    with pytest.raises(CloneError, match=f"the submodule 'evil' cannot be had.*{why}"):
        await checked_out(one)


@pytest.mark.requires("git-http-backend")
async def test_a_path_of_this_host_is_never_served_for_a_remote_elsewhere(bench, srv):
    add_submodule(srv / "r.git", str(srv / "sub.git"), "evil", resolve=srv / "sub.git")
    with serving(srv) as server:
        one = await bench(f"{server.url}/r.git")
        with pytest.raises(CloneError, match="is a path of this host"):
            await checked_out(one)


async def test_a_credential_is_for_the_remotes_own_host_only():
    async def source(_operation):
        return GitCredential("u", "p")

    main = check_repository("https://host/a")
    assert scoped_credentials(source, check_repository("https://host/b"), main) is source
    assert scoped_credentials(source, check_repository("https://other/b"), main) is no_credential
    assert scoped_credentials(source, check_repository("http://host/b"), main) is no_credential
    assert await no_credential(Operation.READ) is None


def test_a_gitlink_without_an_address_is_no_submodule():
    tree = b"160000 commit aaa\tsub\x00100644 blob bbb\tfile\x00160000 commit ccc\tnested\x00"
    settings = b"submodule.x.path\nsub\0submodule.x.url\n../s\0submodule.y.path\nfile\0"
    assert [(found.path, found.sha, found.url) for found in parse_submodules(tree, settings)] == [
        ("sub", "aaa", "../s")
    ]
