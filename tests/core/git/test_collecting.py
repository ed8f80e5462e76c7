"""Bringing work to the host: every ref, exact commits, nested repositories, and what git's check refuses.

Time budget: 90 s.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from gitmachine.errors import GitError
from gitmachine.git.model import GitIdentity, GitOptions
from gitmachine.git.store import machine_ref
from gitmachine.git.workspace import Workspace
from support.machines import FilesMachine, StreamMachine
from support.repos import add_commit, git, make_empty_remote, make_remote

MACHINES = pytest.mark.parametrize("machine", [StreamMachine, FilesMachine])


@pytest.fixture
def remote(tmp_path):
    return make_remote(tmp_path / "r.git", commits=20)


@MACHINES
async def test_every_ref_arrives_and_what_is_gone_disappears(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    sha = await one.commit("one.txt")
    await one.sh(
        "git branch a && git tag -a -m t t && echo s > s && git add s && git stash -q"
        " && git update-ref refs/gitmachine/keep/stash/0 refs/stash && git update-ref refs/nested/odd HEAD"
        " && git update-ref refs/blob $(echo x | git hash-object -w --stdin)"
    )
    survey = await one.collect()
    store = one.transport.store
    assert await store.refs() == {machine_ref(ref): value for ref, value in survey.refs.items()}
    assert {"refs/machine/own-nested/odd", "refs/machine/blob", "refs/machine/stash"} <= set(await store.refs())
    await one.sh("git branch -D a -q && git branch a/b && git tag -d t")
    await one.collect()
    refs = await store.refs()
    assert "refs/machine/heads/a" not in refs
    assert "refs/machine/tags/t" not in refs
    assert refs["refs/machine/heads/a/b"] == sha
    assert await store.refs("refs/incoming/") == {}
    git("-C", store.path, "fsck", "--strict")


@MACHINES
async def test_nothing_travels_when_nothing_is_new(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    await one.commit("one.txt")
    survey = await one.collect()

    async def unused(_request):
        raise AssertionError("the machine was asked although the host has everything")

    one.machine.spawn = one.machine.execute = unused
    await one.transport.collect(one.machine, one.path, survey)


@MACHINES
async def test_a_ref_that_moves_meanwhile_changes_nothing(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    first = await one.commit("one.txt")
    survey = await one.survey()
    await one.sh("git commit -q --amend -m rewritten")
    await one.transport.collect(one.machine, one.path, survey)
    assert (await one.transport.store.refs())["refs/machine/heads/feat"] == first
    assert await one.transport.store.has(first)


@MACHINES
async def test_a_commit_that_the_machine_does_not_have_is_an_error(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    survey = attrs.evolve(await one.survey(), refs={"refs/heads/feat": "f" * 40}, head="f" * 40)
    with pytest.raises(GitError, match=r"could not be brought out|did not arrive"):
        await one.transport.collect(one.machine, one.path, survey)
    assert await one.transport.store.refs() == {}


@MACHINES
async def test_a_repository_with_missing_objects_is_an_error_every_time(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    await one.commit("one.txt", "content that will be lost\n")
    blob = await one.sh("git rev-parse HEAD:one.txt")
    Path(one.path, ".git/objects", blob[:2], blob[2:]).unlink()
    for _ in range(2):
        with pytest.raises(GitError):
            await one.collect()
    assert await one.transport.store.refs() == {}


@MACHINES
async def test_an_empty_repository_has_nothing_to_collect(bench, tmp_path, machine):
    one = await bench(make_empty_remote(tmp_path / "empty.git"), machine=machine)
    await one.begin()
    await one.collect()
    assert await one.transport.store.refs() == {}
    assert await one.transport.store.unpublished(one.transport.remote_state, "feat") == ()


@MACHINES
async def test_work_on_top_of_what_the_agent_fetched_shallowly_is_collected(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    add_commit(remote, "main", {"x": b"1"})
    add_commit(remote, "main", {"x": b"2"})
    await one.sh(f"git fetch -q --depth=1 file://{remote} main && git reset -q --hard FETCH_HEAD")
    sha = await one.commit("mine.txt")
    await one.collect()
    assert git("-C", one.transport.store.path, "rev-list", "--count", sha) == "23"


@MACHINES
async def test_a_detached_head_is_collected(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    await one.sh("git checkout -q --detach")
    sha = await one.commit("loose.txt")
    await one.collect()
    assert (await one.transport.store.refs())["refs/machine/gitmachine/keep/head"] == sha


@MACHINES
async def test_nested_repositories_are_collected_beside(bench, remote, machine, tmp_path):
    one = await bench(remote, machine=machine)
    await one.begin()
    other = make_remote(tmp_path / "other.git", commits=30)
    await one.sh(
        f"git init -q 'in ner' && cd 'in ner' && git commit -q --allow-empty -m x && git clone -q {other} ../sub"
    )
    await one.collect("in ner", "sub")
    store = one.transport.store
    nested = {record["path"]: key for key, record in store.nested().items()}
    assert set(nested) == {"in ner", "sub"}
    tips = {path: await one.sh("git rev-parse HEAD", cwd=f"{one.path}/{path}") for path in nested}
    refs = await store.refs("refs/machine/nested/")
    assert set(tips.values()) <= set(refs.values())
    kept = await store.unpublished(one.transport.remote_state, "feat")
    assert {(entry.kind, entry.path, entry.sha) for entry in kept} >= {
        ("nested", path, sha) for path, sha in tips.items()
    }
    await one.collect("in ner", "sub")
    assert await store.refs("refs/machine/nested/") == refs
    await one.collect("sub")
    assert {ref.split("/")[3] for ref in await store.refs("refs/machine/nested/")} == {nested["sub"]}
    assert await store.has(tips["in ner"])


@MACHINES
async def test_a_shallow_nested_repository_is_kept_without_making_the_store_shallow(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    # The worst case: a shallow clone of the very repository that the session works on.
    await one.sh(f"git clone -q --depth 2 file://{remote} again")
    sha = await one.sh("git commit -q --allow-empty -m deep && git rev-parse HEAD", cwd=f"{one.path}/again")
    await one.collect("again")
    store = one.transport.store
    assert not (store.path / "shallow").exists()
    assert git("-C", store.path, "rev-list", "--count", "refs/machine/heads/feat") == "20"
    kept = await store.unpublished(one.transport.remote_state, "feat")
    assert sha in {entry.sha for entry in kept if entry.path == "again"}


@MACHINES
async def test_a_shallow_clone_of_another_repository_is_kept_beside(bench, remote, machine, tmp_path):
    one = await bench(remote, machine=machine)
    await one.begin()
    other = make_remote(tmp_path / "other.git", commits=30, branch="trunk")
    add_commit(other, "trunk", {"other": b"1"})
    await one.sh(f"git clone -q --depth 2 file://{other} sub")
    sha = await one.sh("git commit -q --allow-empty -m mine && git rev-parse HEAD", cwd=f"{one.path}/sub")
    await one.collect("sub")
    await one.collect("sub")
    store = one.transport.store
    assert not (store.path / "shallow").exists()
    kept = await store.unpublished(one.transport.remote_state, "feat")
    assert [(entry.kind, entry.path, entry.sha) for entry in kept] == [("nested", "sub", sha)]
    (aside,) = (store.path / "nested").glob("*.git")
    assert git("-C", aside, "show", f"{sha}:other") == "1"
    git("-C", aside, "fsck", "--strict")


async def test_a_broken_nested_repository_does_not_keep_the_others_from_being_saved(bench, remote):
    one = await bench(remote)
    await one.begin()
    await one.sh("for d in bad good; do git init -q $d && (cd $d && git commit -q --allow-empty -m $d); done")
    survey = await one.survey("bad", "good")
    await one.sh("rm -rf bad/.git/objects")
    with pytest.raises(GitError, match="'bad'"):
        await one.transport.collect(one.machine, one.path, survey)
    good = survey.nested_refs["good"][
        "refs/heads/main" if "refs/heads/main" in survey.nested_refs["good"] else "refs/heads/master"
    ]
    assert good in (await one.transport.store.refs("refs/machine/nested/")).values()


@MACHINES
async def test_what_gits_check_refuses_is_quarantined_and_reported(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    blob = await one.sh("echo evil | git hash-object -w --stdin")
    tree = await one.sh(f"printf '100644 blob {blob}\\t.GIT\\n' | git mktree")
    sha = await one.sh(
        f"git update-ref refs/heads/evil $(git commit-tree -m evil -p HEAD {tree}) && git rev-parse evil"
    )
    with pytest.raises(GitError, match="it is kept, unchecked, in") as caught:
        await one.collect()
    assert "hasDotgit" in str(caught.value)
    store = one.transport.store
    assert await store.refs() == {}
    assert sha in git("-C", store.path / "quarantine" / "1.git", "for-each-ref")
    assert "refs/incoming" in git("-C", store.path / "quarantine" / "1.git", "for-each-ref")


@MACHINES
async def test_a_symlinked_gitmodules_is_refused_and_old_mistakes_are_not(bench, remote, machine):
    one = await bench(remote, machine=machine)
    await one.begin()
    # A time zone and an e-mail address as in repositories from before git checked them.
    who = ("author A <a> 1 +051800", "committer A <<a>> 1 +051800")
    await one.sh(
        f"printf 'tree %s\\n{who[0]}\\n{who[1]}\\n\\nold\\n' $(git rev-parse HEAD^{{tree}}) > raw && "
        "git update-ref refs/heads/old $(git hash-object -t commit -w --literally raw)"
    )
    await one.collect()
    assert "refs/machine/heads/old" in await one.transport.store.refs()
    blob = await one.sh("printf /etc/passwd | git hash-object -w --stdin")
    tree = await one.sh(f"printf '120000 blob {blob}\\t.gitmodules\\n' | git mktree")
    await one.sh(f"git update-ref refs/heads/evil $(git commit-tree -m evil {tree})")
    with pytest.raises(GitError, match="gitmodulesSymlink"):
        await one.collect()


@pytest.mark.parametrize(
    "refs",
    [
        {"refs/heads/x y": "a" * 40},
        {"HEAD": "a" * 40},
        {"refs/heads/x": "--upload-pack=x"},
        {"refs/heads/x\nrefs/heads/y": "a" * 40},
        {"refs/heads/" + "x" * 2000: "a" * 40},
        {"refs/heads/x": "a" * 39 + ":"},
    ],
)
async def test_hostile_refs_are_refused_before_anything_runs(bench, remote, refs):
    one = await bench(remote)
    await one.begin()
    survey = attrs.evolve(await one.survey(), refs=refs)
    with pytest.raises(GitError, match="names a strange ref"):
        await one.transport.collect(one.machine, one.path, survey)


async def test_the_configuration_and_hooks_of_a_hostile_repository_do_not_run_on_the_host(bench, remote, tmp_path):
    one = await bench(remote, options=GitOptions())
    await one.begin()
    await one.commit("one.txt", "x")
    evil = tmp_path / "evil"
    hook = Path(one.path, ".git/hooks/reference-transaction")
    hook.write_text(f"#!/bin/sh\necho $PPID >> {evil}\n")
    hook.chmod(0o755)
    await one.sh(f"git config core.fsmonitor 'touch {evil}' && git config core.sshCommand 'touch {evil}'", check=False)
    evil.unlink(missing_ok=True)
    survey = attrs.evolve(await one.survey(), branch="feat")
    evil.unlink(missing_ok=True)
    await one.transport.collect(one.machine, one.path, survey)
    await one.transport.publish(survey.head, "feat")
    assert not evil.exists()


@MACHINES
async def test_a_real_survey_is_collected_whole(bench, remote, machine, tmp_path):
    one = await bench(remote, machine=machine)
    await one.begin()
    other = make_remote(tmp_path / "other.git", commits=3)
    add = f"git -c protocol.file.allow=always submodule --quiet add {other}"
    commit = "git commit -q --allow-empty -m"
    await one.sh(f"git worktree add -q ../elsewhere && cd ../elsewhere && {commit} there && git clone -q {other} in")
    await one.sh(f"{add} sub && {commit} sub && cd sub && {commit} 'in sub'")
    await one.sh(f"{add} gone && {commit} gone && cd gone && {commit} 'in gone'")
    await one.sh(f"git rm -q -f gone && {commit} without")
    await one.sh("echo stashed > s && git add s && git stash -q && echo dirty > README.md && echo new > untracked")
    workspace = Workspace(one.machine.execute, one.path, GitIdentity())
    survey = await workspace.survey()
    await one.transport.collect(one.machine, one.path, survey)
    store = one.transport.store
    everything = {*(await store.refs()).values()}
    for refs in (survey.refs, *survey.nested_refs.values()):
        assert {sha for ref, sha in refs.items() if not ref.startswith("refs/remotes/origin/")} <= everything
    kept = await store.unpublished(one.transport.remote_state, "feat")
    assert {entry.kind for entry in kept} == {"branch", "stash", "changes", "nested", "submodule"}
    assert len({entry.path for entry in kept if entry.kind == "submodule"}) == 2
    assert {entry.name for entry in kept if entry.kind == "branch"} == {"feat", "elsewhere"}
    changes = next(entry for entry in kept if entry.kind == "changes")
    assert git("-C", store.path, "show", f"{changes.sha}:untracked") == "new"
    again = await workspace.survey()
    assert again == survey
    result = await one.transport.publish(survey.head, "feat")
    assert result.remote_sha == survey.head
    left = await store.unpublished(one.transport.remote_state, "feat")
    assert "feat" not in {entry.name for entry in left}
