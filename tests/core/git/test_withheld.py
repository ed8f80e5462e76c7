"""What was withheld is kept, told once, and given back without harm. Time budget: 20 s."""

from __future__ import annotations

import stat

import attrs
import pytest

from gitmachine.errors import GitError, StateError
from gitmachine.git.model import RemoteState
from gitmachine.git.store import SessionRepository
from gitmachine.git.withheld import CHANGES, WITHHELD, drop_withheld, keep_withheld, list_withheld, restore_file
from gitmachine.outcomes import KeptKind, Withheld
from support.repos import add_commit, git, make_remote, tip

ODD = "sp ace/-n [x]* \udcff\n"


@pytest.fixture
async def store(tmp_path, host):
    mirror = make_remote(tmp_path / "mirror.git", commits=3)
    made = SessionRepository(tmp_path / "s.git", host, mirror)
    await made.open()
    return made


async def changes(store, files):
    """Put a commit of uncommitted changes where a survey's would be; returns it."""
    sha = add_commit(store.mirror, "elsewhere", files, start=tip(store.mirror, "main"))
    git("-C", store.path, "fetch", "-q", store.mirror, f"+{sha}:{CHANGES}")
    git("-C", store.mirror, "update-ref", "-d", "refs/heads/elsewhere")
    return sha


def asked(*paths, reason="a secret"):
    return tuple(Withheld(path=path, reason=reason, plugin="guard") for path in paths)


async def kept_kinds(store):
    remote = RemoteState(default_branch="main", refs={"refs/heads/main": tip(store.mirror, "main")})
    return [(kept.kind, kept.name) for kept in await store.unpublished(remote, "feat")]


async def test_files_are_kept_and_only_news_is_told_again(store):
    sha = await changes(store, {"key": b"one", "dir/big": b"x" * 100})
    found, fresh = await keep_withheld(store, sha, asked("key", "dir/big", "gone"))
    assert found == fresh
    assert [(one.path, one.size_bytes, one.blob is None) for one in found] == [
        ("key", 3, False),
        ("dir/big", 100, False),
        ("gone", 0, True),
    ]
    assert (await keep_withheld(store, sha, asked("key", "dir/big", "gone")))[1] == ()
    other = await changes(store, {"key": b"three", "dir/big": b"x" * 100})
    found, fresh = await keep_withheld(store, other, asked("key", "dir/big"))
    assert [one.path for one in fresh] == ["key"]
    assert len(found) == 2
    assert await store.refs(WITHHELD) == {f"{WITHHELD}1": sha, f"{WITHHELD}2": other}
    assert [(one.path, one.size_bytes) for one in await list_withheld(store)] == [
        ("dir/big", 100),
        ("gone", 0),
        ("key", 5),
    ]


async def test_what_was_withheld_counts_as_work_until_it_is_dropped(store):
    sha = await changes(store, {"key": b"one"})
    await keep_withheld(store, sha, asked("key"))
    assert await kept_kinds(store) == [(KeptKind.WITHHELD, "1")]
    await drop_withheld(store, ended=False)
    assert await kept_kinds(store) == [(KeptKind.CHANGES, "refs/gitmachine/keep/changes")]
    assert await list_withheld(store) == ()
    await keep_withheld(store, sha, asked("key"))
    await drop_withheld(store, ended=True)
    assert await kept_kinds(store) == []


async def test_other_uncommitted_work_is_not_dropped_with_it(store):
    sha = await changes(store, {"key": b"one", "work": b"mine"})
    await keep_withheld(store, sha, asked("key"))
    await drop_withheld(store, ended=True)
    assert await kept_kinds(store) == [(KeptKind.CHANGES, "refs/gitmachine/keep/changes")]


async def test_a_file_is_given_back_exactly_and_to_its_owner_only(store, tmp_path):
    content = bytes(range(256)) * 9000
    sha = await changes(store, {"dir/key": content})
    await keep_withheld(store, sha, asked("dir/key"))
    (file,) = await list_withheld(store)
    place = await restore_file(store, file, tmp_path / "out")
    assert place == tmp_path / "out" / "dir" / "key"
    assert place.read_bytes() == content
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [entry.name for entry in place.parent.iterdir()] == ["key"]
    with pytest.raises(StateError, match="exists already"):
        await restore_file(store, file, tmp_path / "out")
    place.write_text("mine")
    await restore_file(store, file, tmp_path / "out", overwrite=True)
    assert place.read_bytes() == content


async def test_odd_names_are_kept_as_they_are(store, tmp_path):
    blob = git("-C", store.path, "hash-object", "-w", "--stdin", stdin=b"odd")
    tree = git("-C", store.path, "mktree", "-z", stdin=f"100755 blob {blob}\t".encode() + b"-n [x]* \xff\n\0")
    top = git("-C", store.path, "mktree", "-z", stdin=f"040000 tree {tree}\tsp ace\0".encode())
    sha = git("-C", store.path, "commit-tree", top, "-m", "odd")
    await keep_withheld(store, sha, asked(ODD))
    (file,) = await list_withheld(store)
    assert (file.path, file.size_bytes, file.executable) == (ODD, 3, True)
    place = await restore_file(store, file, tmp_path / "out")
    assert place.read_bytes() == b"odd"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("path", ["../out", "/etc/x", "a/../../x", ".git/hooks/x", "a//b", "sub/.GIT/x", ""])
async def test_no_path_leads_out_of_the_folder(store, tmp_path, path):
    sha = await changes(store, {"key": b"one"})
    await keep_withheld(store, sha, asked("key"))
    (file,) = await list_withheld(store)
    with pytest.raises(StateError, match="no path"):
        await restore_file(store, attrs.evolve(file, path=path), tmp_path / "out")
    assert not (tmp_path / "x").exists()


async def test_nothing_is_written_through_a_link(store, tmp_path):
    sha = await changes(store, {"dir/key": b"one", "flat": b"two"})
    await keep_withheld(store, sha, asked("dir/key", "flat"))
    one, two = await list_withheld(store)
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "dir").symlink_to(tmp_path / "elsewhere")
    (out / "flat").symlink_to(tmp_path / "elsewhere" / "flat")
    with pytest.raises(StateError, match="no directory"):
        await restore_file(store, one, out)
    with pytest.raises(StateError, match="exists already"):
        await restore_file(store, two, out)
    await restore_file(store, two, out, overwrite=True)
    assert not (out / "flat").is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_what_has_no_content_or_is_gone_is_said_so(store, tmp_path):
    sha = await changes(store, {"key": b"one"})
    await keep_withheld(store, sha, asked("gone", "key"))
    gone, key = await list_withheld(store)
    with pytest.raises(StateError, match="no content"):
        await restore_file(store, gone, tmp_path / "out")
    with pytest.raises(GitError, match="completely"):
        await restore_file(store, attrs.evolve(key, blob="f" * 40), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_damaged_record_is_an_error(store):
    (store.path / "withheld.json").write_text("[{}]")
    with pytest.raises(StateError, match="move it away"):
        await list_withheld(store)
