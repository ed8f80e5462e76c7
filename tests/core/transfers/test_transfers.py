"""The three ways files travel (a stream, an archive as files, file by file), and what goes wrong on each.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitmachine.archives import LocalFileError, Transfer
from gitmachine.errors import MachineFileError, MachineLostError
from gitmachine.testing import FakeMachine, FaultyMachine
from gitmachine.transfers import download, plain_upload, uploading
from support.archives import END, directory, entry, symlink

PROGRAMS = ("sh", "ls", "mkdir", "mv", "rm", "cat", "chmod", "ln", "readlink", "dd", "touch", "wc")
WAYS = ("stream", "files", "plain")


class Files(FakeMachine):
    """A machine into which bulk data gets as files only."""

    bulk_in = "files"


def programs(where: Path, **own: str | None) -> str:
    """Return a PATH with the few programs that a transfer may use, and others that are our own scripts."""
    where.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None
        (where / name).symlink_to(found)
    for name, text in own.items():
        if text is not None:
            (where / name).unlink(missing_ok=True)
            (where / name).write_text(text)
            (where / name).chmod(0o755)
    return str(where)


@pytest.fixture(params=WAYS)
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeMachine]:
    """A machine for each way to move files."""
    if request.param == "plain":
        made = FakeMachine(root=tmp_path, path=programs(tmp_path / "bin", tar=None))
    elif request.param == "files":
        made = Files(root=tmp_path, capabilities=())
    else:
        made = FakeMachine(root=tmp_path)
    await made.start()
    yield made
    await made.stop()


async def hostile(tmp_path: Path, archive: bytes, after: str = "exit 0") -> FakeMachine:
    """Return a running machine whose tar prints what we say."""
    (tmp_path / "archive").write_bytes(archive)
    path = programs(tmp_path / "bin", tar=f"#!/bin/sh\ncat '{tmp_path / 'archive'}'\n{after}\n")
    machine = FakeMachine(root=tmp_path, path=path)
    await machine.start()
    await machine.write_file("t/x", b"x")
    return machine


def tree(root: Path) -> Path:
    (root / "d" / "empty").mkdir(parents=True)
    (root / "d" / "-name\nof two lines").write_bytes(bytes(range(256)))
    (root / "d" / os.fsdecode(b"\xff")).write_text("raw")
    (root / "d" / "run").write_text("#!/bin/sh\n")
    (root / "d" / "run").chmod(0o755)
    (root / ".hidden").write_text("")
    (root / "link").symlink_to("d/run")
    (root / "d" / "dangling").symlink_to("no where\n")
    return root


def seen(root: Path) -> dict[str, tuple[bool, object]]:
    return {
        str(path.relative_to(root)): (
            bool(path.lstat().st_mode & 0o100),
            str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes(),
        )
        for path in root.rglob("*")
    }


async def test_a_tree_goes_in_and_out(machine: FakeMachine, tmp_path: Path) -> None:
    source = tree(tmp_path / "src")
    assert await machine.upload(source, "a/b c") == Transfer(files=6, bytes=269)
    assert seen(Path(machine.workdir, "a/b c")) == seen(source)
    assert await machine.download("a/b c", tmp_path / "x" / "out") == Transfer(files=6, bytes=269)
    assert seen(tmp_path / "x" / "out") == seen(source)
    left = [path.name for path in Path(machine.workdir).rglob(".gitmachine-*")]
    assert left == []


async def test_a_directory_that_is_there_keeps_its_mode_and_what_is_in_it(machine: FakeMachine, tmp_path: Path) -> None:
    inside = Path(machine.workdir, "d")
    inside.mkdir()
    inside.chmod(0o750)
    (inside / "kept").write_text("kept")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "new").write_text("new")
    await machine.upload(tmp_path / "src", "d")
    await machine.upload(tmp_path / "src", "./d/")
    assert sorted(path.name for path in inside.iterdir()) == ["kept", "new"]
    assert stat.S_IMODE(inside.stat().st_mode) == 0o750


async def test_a_file_becomes_the_target_with_its_mode(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"new")
    (tmp_path / "f").chmod(0o751)
    Path(machine.workdir, "old").symlink_to("/nowhere")
    for target in ("p/q/f", "old", str(Path(machine.workdir, "absolute"))):
        assert await machine.upload(tmp_path / "f", target) == Transfer(files=1, bytes=3)
        arrived = Path(machine.workdir, target)
        assert (arrived.is_symlink(), arrived.read_bytes()) == (False, b"new")
        assert stat.S_IMODE(arrived.stat().st_mode) == 0o751
        assert await machine.download(target, tmp_path / "back") == Transfer(files=1, bytes=3)
        assert (tmp_path / "back").read_bytes() == b"new"


async def test_links_stay_links_and_a_slash_follows_one(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    assert await machine.upload(tmp_path / "link", "copy") == Transfer(files=1)
    assert str(Path(machine.workdir, "copy").readlink()) == "elsewhere"
    await machine.write_file("real/f", b"x")
    Path(machine.workdir, "to real").symlink_to("real")
    await machine.download("to real", tmp_path / "as link")
    await machine.download("to real/", tmp_path / "followed")
    await machine.download("real/.", tmp_path / "content")
    assert str((tmp_path / "as link").readlink()) == "real"
    assert seen(tmp_path / "followed") == seen(tmp_path / "content") == {"f": (False, b"x")}


async def test_each_failure_is_its_own_error_and_changes_nothing(machine: FakeMachine, tmp_path: Path) -> None:
    await machine.write_file("f", b"old")
    await machine.write_file("d/f", b"old")
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("new")
    fails = [
        (lambda: machine.upload(tmp_path / "f", "d"), IsADirectoryError, "'d'"),
        (lambda: machine.upload(tmp_path / "f", "new/"), IsADirectoryError, "'new/'"),
        (lambda: machine.upload(tmp_path / "d", "f"), NotADirectoryError, "'f'"),
        (lambda: machine.upload(tmp_path / "f", "f/x"), NotADirectoryError, "'f/x'"),
        (lambda: machine.upload(tmp_path / "d", "f/x"), NotADirectoryError, "'f/x'"),
        (lambda: machine.upload(tmp_path / "f", ""), FileNotFoundError, "''"),
        (lambda: machine.download("nothing", tmp_path / "x"), FileNotFoundError, "'nothing'"),
        (lambda: machine.download("f/x", tmp_path / "x"), NotADirectoryError, "'f/x'"),
        (lambda: machine.download("f/", tmp_path / "x"), NotADirectoryError, "'f/'"),
        (lambda: machine.download("a\0b", tmp_path / "x"), FileNotFoundError, "0b"),
    ]
    for transfer, expected, names in fails:
        with pytest.raises(expected, match=names) as caught:
            await transfer()
        assert isinstance(caught.value, MachineFileError)
    here = [
        (lambda: machine.upload(tmp_path / "missing", "x"), FileNotFoundError),
        (lambda: machine.download("f", tmp_path / "d"), IsADirectoryError),
        (lambda: machine.download("d", tmp_path / "f"), NotADirectoryError),
    ]
    for transfer, expected in here:
        with pytest.raises(expected) as caught:
            await transfer()
        assert isinstance(caught.value, LocalFileError)
    assert await machine.list_files() == ["d", "f"]
    assert await machine.read_file("f") == b"old"
    assert not os.path.lexists(tmp_path / "x")


async def test_special_files_are_refused_by_name_on_both_sides(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "a pipe")
    with pytest.raises(LocalFileError, match="a pipe"):
        await machine.upload(tmp_path / "d", "d")
    await machine.write_file("e/f", b"")
    os.mkfifo(Path(machine.workdir, "e", "a pipe"))
    with pytest.raises(MachineFileError, match="a pipe"):
        await machine.download("e", tmp_path / "e")
    assert not (tmp_path / "e").exists()


async def test_bounds_hold_on_every_way(machine: FakeMachine, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        await machine.write_file(f"d/{name}", b"x" * 1000)
    for bounds in ({"max_bytes": 2500}, {"max_entries": 3}):
        with pytest.raises(MachineFileError) as caught:
            await machine.download("d", tmp_path / "x", **bounds)
        assert caught.value.errno == errno.EFBIG
        assert not (tmp_path / "x").exists()
    assert await machine.download("d", tmp_path / "x", max_bytes=3000, max_entries=4) == Transfer(files=3, bytes=3000)


async def test_large_files_travel_in_pieces(
    machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "_PART_BYTES", 1 << 20)
    monkeypatch.setattr(plain_upload, "_PIECE_BYTES", 1 << 20)
    data = os.urandom((3 << 20) + 17)
    (tmp_path / "f").write_bytes(data)
    await machine.upload(tmp_path / "f", "f")
    assert Path(machine.workdir, "f").read_bytes() == data
    await machine.download("f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert await machine.list_files() == ["f"]


def something(path: Path, program: str) -> Path:
    """Make what travels by a program: a file by ``cat``, a link in an archive."""
    if program == "cat":
        path.write_text("x")
    else:
        path.symlink_to("x")
    return path


@pytest.mark.parametrize("program", ["cat", "tar"])
async def test_a_full_disk_is_named(tmp_path: Path, program: str) -> None:
    full = "#!/bin/sh\n/bin/cat >/dev/null\necho 'x: Cannot write: No space left on device' >&2\nexit 2\n"
    machine = FakeMachine(root=tmp_path, path=programs(tmp_path / "bin", **{program: full}))
    await machine.start()
    with pytest.raises(MachineFileError, match="no space left") as caught:
        await machine.upload(something(tmp_path / "f", program), "sub/f")
    assert caught.value.errno == errno.ENOSPC
    assert await machine.list_files("sub") == []
    await machine.stop()


async def test_a_file_that_arrives_in_part_does_not_become_the_file(tmp_path: Path) -> None:
    short = "#!/bin/sh\n/usr/bin/head -c 1000\n"  # as at the end of a connection, which looks like that of the input
    machine = FakeMachine(root=tmp_path, path=programs(tmp_path / "bin", cat=short))
    await machine.start()
    await machine.write_file("sub/f", b"before")
    (tmp_path / "f").write_bytes(bytes(3000))
    with pytest.raises(MachineFileError, match="1000 of 3000 bytes arrived") as caught:
        await machine.upload(tmp_path / "f", "sub/f")
    assert caught.value.errno == errno.EIO
    assert (await machine.list_files("sub"), await machine.read_file("sub/f")) == (["f"], b"before")
    await machine.stop()


async def test_a_file_gets_in_without_tar_or_stat_in_one_piece(tmp_path: Path) -> None:
    machine = FakeMachine(root=tmp_path, path=programs(tmp_path / "bin"))
    await machine.start()
    (tmp_path / "f").write_bytes(bytes(5 << 20))
    (tmp_path / "f").chmod(0o754)
    os.utime(tmp_path / "f", (1_234_567_890.9, 1_234_567_890.9))
    assert await machine.upload(tmp_path / "f", "sub/f") == Transfer(files=1, bytes=5 << 20)
    placed = Path(machine.workdir, "sub", "f").stat()
    assert (placed.st_size, stat.S_IMODE(placed.st_mode), placed.st_mtime) == (5 << 20, 0o754, 1_234_567_890)
    assert await machine.list_files("sub") == ["f"]
    await machine.stop()


@pytest.mark.parametrize(
    "archive",
    [
        entry("../outside/victim", b"pwned"),
        entry("/etc/pwned", b"pwned"),
        directory("t") + symlink("t/l", "../outside") + entry("t/l/victim", b"pwned"),
        directory("t") + entry("t/h", kind=b"1", link=b"../outside/victim"),
        symlink("t", "outside") + entry("t/victim", b"pwned"),
        directory("t") + entry("t/d", kind=b"3"),
        entry("other", b"x"),
    ],
)
async def test_a_hostile_machine_does_not_get_out_of_the_target(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("safe")
    machine = await hostile(tmp_path, archive + END)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(MachineFileError, match="'t'") as caught:
        await machine.download("t", tmp_path / "target")
    assert caught.value.errno == errno.EBADMSG
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "outside" / "victim").read_text() == "safe"
    await machine.stop()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("echo 'tar: t/x: Cannot open: Permission denied' >&2; exit 2", PermissionError),
        ("echo 'tar: t/x: File shrank by 3 bytes; padding with zeros' >&2; exit 1", OSError),
        ("exit 1", OSError),
        ("kill -9 $$", OSError),
    ],
)
async def test_an_archive_whose_maker_failed_is_not_kept(tmp_path: Path, after: str, expected: type[OSError]) -> None:
    machine = await hostile(tmp_path, entry("t", b"whole") + END, after)
    with pytest.raises(expected):
        await machine.download("t", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    await machine.stop()


async def test_a_file_that_changed_while_it_was_read_is_kept(tmp_path: Path) -> None:
    after = "echo 'tar: ./t/x: file changed as we read it' >&2; exit 1"
    machine = await hostile(tmp_path, entry("t", b"whole") + END, after)
    assert await machine.download("t", tmp_path / "target") == Transfer(files=1, bytes=5)
    await machine.stop()


async def test_an_archive_without_end_is_cut_off(tmp_path: Path) -> None:
    machine = await hostile(tmp_path, entry("t", b"x"), "cat /dev/zero")
    async with asyncio.timeout(60):
        with pytest.raises(MachineFileError, match="on and on"):
            await machine.download("t", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    await machine.stop()


async def test_a_connection_that_breaks_leaves_nothing_here(tmp_path: Path) -> None:
    machine = FaultyMachine(FakeMachine(root=tmp_path))
    await machine.start()
    await machine.write_file("d/f", os.urandom(3 << 20))
    machine.cut_output(1 << 20)
    with pytest.raises(MachineLostError):
        await download(machine, "d", tmp_path / "x", max_bytes=1 << 30, max_entries=10)
    assert not (tmp_path / "x").exists()
    await machine.stop()


@pytest.mark.parametrize("program", ["cat", "tar"])
async def test_a_cancelled_upload_ends_in_the_machine_and_leaves_no_scratch(tmp_path: Path, program: str) -> None:
    slow = '#!/bin/sh\necho up > "$HOME/up"\n/bin/cat > /dev/null\nsleep 600\n'
    machine = FakeMachine(root=tmp_path, path=programs(tmp_path / "bin", **{program: slow}) + ":/usr/bin:/bin")
    await machine.start()
    task = asyncio.ensure_future(machine.upload(something(tmp_path / "f", program), "sub/f"))
    async with asyncio.timeout(60):
        while "up" not in await machine.list_files():
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await machine.list_files("sub") == []
    await machine.stop()
