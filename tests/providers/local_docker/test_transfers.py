"""Files and directories in and out by the engine's archives, and by tar where those do not serve. Time budget: 15 s."""

from __future__ import annotations

import os

import pytest

from gitmachine import MachineError
from gitmachine.archives import LocalFileNotFoundError
from gitmachine.errors import MachineFileNotFoundError
from gitmachine_local_docker import _transfers
from gitmachine_local_docker._engine import Engine

pytestmark = pytest.mark.requires("docker")


@pytest.fixture
def tree(tmp_path):
    """Make a tree with what trees have."""
    top = tmp_path / "tree"
    (top / "sub/empty").mkdir(parents=True)
    (top / "tool").write_text("#!/bin/sh\necho hi\n")
    (top / "tool").chmod(0o750)
    (top / "link").symlink_to("tool")
    (top / "two\nlines").write_bytes(bytes(range(256)))
    os.utime(top / "tool", (1_000_000_000, 1_000_000_000))
    return top


@pytest.fixture
def ways(monkeypatch):
    """Return which ways were taken: True for each transfer by the engine's archives."""
    taken = []
    for name in ("upload", "download"):
        original = getattr(_transfers, name)

        async def watched(*arguments, _original=original, **keywords):
            done = await _original(*arguments, **keywords)
            taken.append(done is not None)
            return done

        monkeypatch.setattr(_transfers, name, watched)
    return taken


async def test_a_tree_goes_in_and_out_past_the_container(making, tree, tmp_path, ways):
    async with making.running() as machine:
        sent = await machine.upload(tree, "deep/er/tree")
        assert sent.files >= 2
        listed = await making.sh(
            machine, "cd deep/er/tree && ./tool && stat -c '%a %U %Y' tool && readlink link && ls -A .."
        )
        assert listed.stdout == "hi\n750 root 1000000000\ntool\ntree\n"
        received = await machine.download("deep/er/tree", tmp_path / "back")
        assert received.files == sent.files
        assert ways == [True, True]
        assert (tmp_path / "back/two\nlines").read_bytes() == bytes(range(256))
        assert (tmp_path / "back/tool").stat().st_mode & 0o777 == 0o750
        assert (tmp_path / "back/link").readlink().name == "tool"
        assert (tmp_path / "back/sub/empty").is_dir()


async def test_a_file_is_replaced_in_one_step_and_a_directory_is_merged(making, tree, ways):
    async with making.running() as machine:
        await making.sh(machine, "echo old > file; mkdir tree; echo kept > tree/kept; exec 3<file")
        await machine.upload(tree / "tool", "file")
        await machine.upload(tree, "tree")
        assert ways == [True, False]  # what is there already is tar's business
        listed = await making.sh(machine, "head -1 file; cat tree/kept; tree/tool; ls -A")
        assert listed.stdout.startswith("#!/bin/sh\nkept\nhi\n")
        assert ".gitmachine" not in listed.stdout


@pytest.mark.parametrize("options", [{"user": "user"}, {"read_only": True}, {"extra": "tmpfs"}], ids=str)
async def test_where_the_archives_do_not_serve_tar_does(options, making, tree, tmp_path):
    if options.get("extra"):
        options = {"extra": {"HostConfig": {"Tmpfs": {"/home/user": "exec"}}}}
    async with making.running(**options) as machine:
        await machine.upload(tree, "tree")
        assert (await making.sh(machine, "tree/tool; ls -A")).stdout.startswith("hi\n")
        names = await machine.list_files()
        assert not [name for name in names if name.startswith(".gitmachine")]
        await machine.download("tree", tmp_path / "back")
        assert (tmp_path / "back/tool").read_text() == (tree / "tool").read_text()


async def test_failures_name_the_side_and_leave_nothing(making, tree, tmp_path):
    async with making.running() as machine:
        with pytest.raises(LocalFileNotFoundError):
            await machine.upload(tmp_path / "nowhere", "x")
        with pytest.raises(MachineFileNotFoundError, match="nowhere"):
            await machine.download("nowhere", tmp_path / "x")
        assert not (tmp_path / "x").exists()
        (tree / "pipe").touch()
        (tree / "pipe").unlink()
        os.mkfifo(tree / "pipe")
        with pytest.raises(OSError, match="pipe"):
            await machine.upload(tree, "x")
        listed = await making.sh(machine, "ls -A")
        assert "x" not in listed.stdout.split()
        assert ".gitmachine" not in listed.stdout


async def test_a_connection_that_is_cut_in_an_upload_is_an_error_and_leaves_nothing(making, tree, monkeypatch):
    async with making.running() as machine:

        async def cut(*_):
            raise ConnectionResetError("cut on purpose")

        monkeypatch.setattr(Engine, "put_archive", cut)
        with pytest.raises(MachineError, match="cut on purpose"):
            await machine.upload(tree, "x")
        assert "gitmachine" not in (await making.sh(machine, "ls -A")).stdout
