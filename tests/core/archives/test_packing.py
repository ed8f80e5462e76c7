"""Archives of what is on the host: exact, streamed, and honest about what changes meanwhile. Time budget: 15 s."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import resource
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from gitmachine.archives import LocalFileError, Pieces, Stretch, Transfer, pack, plain


async def packed(source: Path, name: str) -> bytes:
    return b"".join([chunk async for chunk in pack(source, name=name)])


def opened(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape")


def tree(root: Path) -> Path:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "file").write_bytes(b"content")
    (root / "file").chmod(0o4751)
    (root / "sub" / ("n" * 200)).write_text("long")
    (root / os.fsdecode(b"\xff raw")).write_text("bytes")
    (root / "sub" / "link").symlink_to("../" + "t" * 150)
    os.utime(root / "file", (0, 1_600_000_000.75))
    return root


async def test_a_tree_is_packed_with_modes_links_and_times(tmp_path: Path) -> None:
    packing = pack(tree(tmp_path / "src"), name="thing")
    data = b"".join([chunk async for chunk in packing])
    with opened(data) as archive:
        found = {info.name: info for info in archive}
        below = ["empty", "file", "sub", "sub/deep", "sub/link", f"sub/{'n' * 200}", os.fsdecode(b"\xff raw")]
        assert sorted(found) == sorted(["thing", *(f"thing/{name}" for name in below)])
        info = found["thing/file"]
        assert (info.mode, info.mtime, info.uid, info.gid, info.uname) == (0o751, 1_600_000_000, 0, 0, "")
        content = archive.extractfile(info)
        assert content is not None
        assert content.read() == b"content"
        assert found["thing/sub/link"].linkname == "../" + "t" * 150
        assert found["thing/empty"].isdir()
    assert packing.transfer == Transfer(files=4, bytes=16)


async def test_without_a_name_only_the_content_of_a_directory_is_packed(tmp_path: Path) -> None:
    with opened(await packed(tree(tmp_path / "src"), "")) as archive:
        assert sorted(archive.getnames())[:3] == ["empty", "file", "sub"]
    (tmp_path / "f").write_text("x")
    with pytest.raises(NotADirectoryError, match="not a directory"):
        await packed(tmp_path / "f", "")


async def test_a_link_is_packed_as_a_link_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with opened(await packed(tmp_path / "link", "l")) as archive:
        (info,) = archive.getmembers()
        assert (info.issym(), info.linkname) == (True, "/etc")


@pytest.mark.parametrize("program", ["tar", "busybox"])
async def test_the_machines_own_tar_unpacks_it(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    data = await packed(tree(tmp_path / "src"), "")
    (tmp_path / "out").mkdir()
    argv = [*(["busybox"] if program == "busybox" else []), "tar", "-xpf", "-"]
    subprocess.run(argv, input=data, cwd=tmp_path / "out", check=True, timeout=60)
    argv = ["diff", "-r", "--no-dereference", str(tmp_path / "src"), str(tmp_path / "out")]
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).stdout == b""
    assert (tmp_path / "out" / "file").stat().st_mode & 0o7777 == 0o751


async def test_special_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "the pipe")
    with pytest.raises(LocalFileError, match=r"the pipe.*named pipe") as caught:
        await packed(tmp_path / "d", "d")
    assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, str(tmp_path / "d" / "the pipe"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(LocalFileError, match="a socket"):
            await packed(tmp_path / "s", "s")
    with pytest.raises(LocalFileError, match="a device"):
        await packed(Path("/dev/null"), "n")


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not here") as caught:
        await packed(tmp_path / "not here", "x")
    assert isinstance(caught.value, LocalFileError)
    assert caught.value.filename == str(tmp_path / "not here")


async def test_a_small_file_that_changes_is_packed_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    real = os.fstat

    def shrinking(fd: int) -> os.stat_result:
        status = real(fd)
        os.truncate(tmp_path / "f", 4)
        return status

    monkeypatch.setattr("gitmachine.archives.packing.os.fstat", shrinking)
    with opened(await packed(tmp_path / "f", "f")) as archive:
        (info,) = archive.getmembers()
        assert info.size == 4


async def test_a_large_file_that_grows_is_packed_up_to_the_size_it_had(tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"a" * (3 << 20))
    data = b""
    async for chunk in pack(source, name="f"):
        data += chunk
        with source.open("ab") as file:
            file.write(b"b" * 1000)
    with opened(data) as archive:
        (info,) = archive.getmembers()
        content = archive.extractfile(info)
        assert content is not None
        assert content.read() == b"a" * (3 << 20)


async def test_a_large_file_that_shrinks_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = tmp_path / "shrinks"
    source.write_bytes(b"a" * (8 << 20))
    packing = pack(source, name="f")
    await anext(packing)
    os.truncate(source, 1000)
    with pytest.raises(LocalFileError, match=r"shrinks.*became smaller"):
        b"".join([chunk async for chunk in packing])


async def test_what_vanishes_while_a_directory_is_read_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "d" / "a" / "large").write_bytes(b"x" * (4 << 20))
    (tmp_path / "d" / "c" / "kept").write_text("kept")
    data = b""
    async for chunk in pack(tmp_path / "d", name="d"):
        if not data:
            (tmp_path / "d" / "b").rmdir()
        data += chunk
    with opened(data) as archive:
        assert sorted(archive.getnames()) == ["d", "d/a", "d/a/large", "d/c", "d/c/kept"]


async def test_nothing_is_read_before_the_first_chunk_is_asked_for(tmp_path: Path) -> None:
    packing = pack(tmp_path / "later", name="x")
    (tmp_path / "later").write_text("made")
    with opened(b"".join([chunk async for chunk in packing])) as archive:
        assert archive.getnames() == ["x"]
    assert [chunk async for chunk in packing] == []


async def test_a_packing_that_is_let_go_of_closes_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (8 << 20))
    packing = pack(tmp_path / "f", name="f")
    await anext(packing)
    await packing.aclose()
    await packing.aclose()
    assert str(tmp_path / "f") not in {os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()}
    assert [chunk async for chunk in packing] == []


async def test_a_reader_that_was_cancelled_can_go_on(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(5 << 20))
    packing, data = pack(tmp_path / "f", name="f"), b""
    while True:
        step = asyncio.ensure_future(anext(packing))
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        try:
            data += step.result() if not step.cancelled() else await anext(packing)
        except StopAsyncIteration:
            break
    with opened(data) as archive:
        assert archive.getmembers()[0].size == 5 << 20


async def test_memory_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(1 << 30)
    before, size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    async for chunk in pack(tmp_path / "f", name="f"):
        size += len(chunk)
    assert size > 1 << 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_the_pieces_for_a_thread_are_the_same_archive_with_large_files_unread(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "d").mkdir(parents=True)
    (source / "d" / "small").write_bytes(b"x" * 1000)
    (source / "large").write_bytes(bytes(range(256)) * 5000)
    (source / "link").symlink_to("large")
    pieces, archive, stretches = Pieces(source, name="t"), b"", 0
    for piece in pieces:
        unread = isinstance(piece, Stretch)
        stretches += unread
        archive += os.read(piece.fd, piece.size) if unread else piece
    assert archive == await packed(source, "t")
    assert (stretches, pieces.transfer) == (1, Transfer(files=3, bytes=1_281_000))


async def test_a_file_comes_as_it_is_and_no_longer_than_it_was(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 10_000)
    reading = plain(path, 2_000_000)
    content = b"".join([chunk async for chunk in reading])
    assert content == path.read_bytes()[:2_000_000]
    assert reading.transfer == Transfer(files=1, bytes=2_000_000)
    with pytest.raises(LocalFileError, match="became smaller"):
        [chunk async for chunk in plain(path, 3_000_000)]
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(LocalFileError):
        [chunk async for chunk in plain(tmp_path / "link", 1)]
