"""Files and directories in and out by the engine's archives, and by tar where those do not serve. Time budget: 15 s."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import tempfile
import threading

import pytest

from gitmachine import MachineUnreachableError
from gitmachine.archives import LocalFileError, LocalFileNotFoundError, Transfer
from gitmachine.archives.headers import make_header
from gitmachine.errors import MachineFileNotFoundError
from gitmachine_local_docker import _archives, _transfers

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


@contextlib.contextmanager
def engine_that(answers):
    """Serve one connection in a thread, by `answers(connection)`; gives the path of its socket."""
    place = tempfile.mkdtemp()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(60)
        listener.bind(f"{place}/socket")
        listener.listen()

        def serve():
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(60)
                answers(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{place}/socket"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            shutil.rmtree(place)
    assert not thread.is_alive()


@contextlib.contextmanager
def through(monkeypatch, path):
    """Let archives go to another engine."""

    async def opened(wire, _):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return wire(connection)

    with monkeypatch.context() as patched:
        patched.setattr(_archives._Wire, "open", classmethod(opened))
        yield


@pytest.fixture
def large(tmp_path):
    """Make a file that no socket holds."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    return tmp_path / "large"


async def test_a_connection_that_is_cut_in_an_upload_is_an_error_and_leaves_nothing(making, large, monkeypatch):
    async with making.running() as machine:
        with engine_that(lambda connection: connection.recv(100_000)) as path, through(monkeypatch, path):
            uploading = machine.upload(large, "x")
            with pytest.raises(MachineUnreachableError):
                await uploading
        assert "gitmachine" not in (await making.sh(machine, "ls -A")).stdout


async def test_a_connection_that_is_cut_in_a_download_is_an_error_and_leaves_nothing(making, tmp_path, monkeypatch):
    def half(connection):
        connection.recv(100_000)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + make_header(b"x", b"0", mode=0o644, size=5000) + bytes(3000))

    async with making.running() as machine:
        with engine_that(half) as path, through(monkeypatch, path):
            downloading = machine.download("x", tmp_path / "x")
            with pytest.raises(MachineUnreachableError):
                await downloading
    assert not list(tmp_path.iterdir())


async def test_what_the_engine_says_before_it_has_everything_is_heard(making, large, monkeypatch, ways):
    def refuse(connection):
        connection.recv(1000)
        connection.sendall(b'HTTP/1.1 500 No\r\nContent-Length: 18\r\n\r\n{"message":"full"}')
        while connection.recv(1 << 20):
            pass

    async with making.running() as machine:
        with engine_that(refuse) as path, through(monkeypatch, path):
            await machine.upload(large, "x")
        assert ways == [False]  # the contract's own way did it
        listed = (await making.sh(machine, "stat -c %s x; ls -A")).stdout
        assert listed.startswith(f"{64 << 20}\n")
        assert "gitmachine" not in listed


@pytest.mark.parametrize("way", ["upload", "download"])
async def test_a_transfer_that_stands_still_can_be_cancelled(making, large, tmp_path, monkeypatch, way):
    begun, ended = threading.Event(), threading.Event()

    def stand_still(connection):
        connection.recv(100)
        begun.set()
        ended.wait(60)

    async with making.running() as machine:
        with engine_that(stand_still) as path, through(monkeypatch, path):
            arguments = (large, "x") if way == "upload" else ("x", tmp_path / "x")
            task = asyncio.ensure_future(getattr(machine, way)(*arguments))
            assert await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(task), 20)
            ended.set()
        assert "gitmachine" not in (await making.sh(machine, "ls -A")).stdout
    assert not (tmp_path / "x").exists()


async def test_a_file_that_shrinks_in_an_upload_is_an_error_of_this_host(making, large, monkeypatch):
    def shrink(connection):
        received = 0
        while received < 2 << 20:  # so that it was opened and its size was told
            received += len(connection.recv(1 << 20))
        os.truncate(large, 1 << 20)
        while connection.recv(1 << 20):
            pass

    async with making.running() as machine:
        with engine_that(shrink) as path, through(monkeypatch, path):
            uploading = machine.upload(large, "x")
            with pytest.raises(LocalFileError, match="became smaller"):
                await uploading
        assert "gitmachine" not in (await making.sh(machine, "ls -A")).stdout


async def test_a_file_goes_in_without_the_kernels_help_too(making, large, monkeypatch, ways):
    monkeypatch.setattr(_archives.os, "sendfile", lambda *_: (_ for _ in ()).throw(OSError(errno.EINVAL, "no")))
    large.write_bytes(bytes(range(256)) * (20 << 10))
    async with making.running() as machine:
        assert await machine.upload(large, "x") == Transfer(files=1, bytes=5 << 20)
        assert ways == [True]
        assert await machine.read_file("x") == large.read_bytes()
