"""Archives from somebody who may be hostile: what is honest arrives, what is not changes nothing. Time budget: 30 s."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitmachine.archives import ArchiveError, LocalFileError, Transfer, pack, unpack
from gitmachine.archives.headers import BLOCK, make_header
from support.archives import END, directory, entry, pax, pieces, symlink


async def taken(data: bytes, target: Path, name: str | None = "t", size: int = 1 << 16, **limits: int) -> Transfer:
    return await unpack(pieces(data, size), target, name=name, **limits)


def everything(root: Path) -> dict[str, object]:
    """Return all that is below a directory, with contents."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that must stay as it is, beside the target."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("safe")
    return tmp_path / "outside"


# What is honest


@pytest.mark.parametrize("dialect", ["gnu", "pax", "ustar", "oldgnu", "v7"])
async def test_what_tar_packs_arrives_in_every_dialect(tmp_path: Path, dialect: str) -> None:
    source = tmp_path / "src"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "a\nb").write_bytes(os.urandom(100_000))
    (source / "a\nb").chmod(0o640)
    (source / "sub" / "x").write_text("x")
    (source / "sub" / "link").symlink_to("/nowhere")
    (source / "sub" / "same").hardlink_to(source / "sub" / "x")
    os.utime(source / "sub" / "x", (1, 1_600_000_000))
    os.utime(source / "sub", (1, 1_500_000_000))
    argv = ["tar", f"--format={dialect}", "-cf", "-", "."]
    data = subprocess.run(argv, cwd=source, check=True, capture_output=True, timeout=60).stdout
    for size in (7, 512, 1 << 20):
        target = tmp_path / f"out{size}"
        assert await taken(data, target, None, size) == Transfer(files=4, bytes=100_001)
        assert everything(target) == everything(source)
        assert stat.S_IMODE((target / "a\nb").stat().st_mode) == 0o640
        assert (target / "sub" / "x").stat().st_mtime == 1_600_000_000
        assert (target / "sub").stat().st_mtime == 1_500_000_000
        assert (target / "sub" / "same").samefile(target / "sub" / "x")


async def test_long_names_and_bytes_that_are_no_text_arrive(tmp_path: Path) -> None:
    name = "/".join("n" * 200 for _ in range(10))
    data = directory("t") + entry(f"t/{name}", b"long") + entry(b"t/\xff\xfe", b"raw") + END
    await taken(data, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == b"long"
    assert (tmp_path / "out" / os.fsdecode(b"\xff\xfe")).read_bytes() == b"raw"


async def test_a_pax_header_says_name_size_time_and_link(tmp_path: Path) -> None:
    said = pax(path="t/café", mtime="1600000.75", size="3")
    data = directory("t") + said + make_header(b"short", b"0", mode=0o600) + b"abc".ljust(BLOCK, b"\0")
    data += pax(linkpath="l" * 200) + symlink("t/l", "short")
    await taken(data + END, tmp_path / "out")
    assert (tmp_path / "out" / "café").read_bytes() == b"abc"
    assert (tmp_path / "out" / "café").stat().st_mtime == 1_600_000
    assert str((tmp_path / "out" / "l").readlink()) == "l" * 200


async def test_one_file_becomes_the_target_with_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    assert await taken(entry("t", b"new", mode=0o755) + END, target) == Transfer(files=1, bytes=3)
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o755)
    assert await taken(symlink("./t", "/etc") + END, target) == Transfer(files=1)
    assert str(target.readlink()) == "/etc"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


async def test_a_directory_is_merged_and_files_are_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "sub").mkdir(parents=True)
    target.chmod(0o750)
    (target / "kept").write_text("kept")
    (target / "sub" / "old").write_text("old")
    (target / "sub" / "link").symlink_to("/etc")
    reader = (target / "sub" / "old").open()
    data = directory("t", 0o777) + entry("t/sub/old", b"new") + entry("t/sub/link", b"file now") + END
    await taken(data, target)
    assert everything(target) == {"kept": b"kept", "sub": None, "sub/old": b"new", "sub/link": b"file now"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    with reader:
        assert reader.read() == "old"


async def test_the_target_may_be_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    await taken(entry("t/f", b"x") + END, tmp_path / "out")
    assert (tmp_path / "real" / "f").read_bytes() == b"x"


async def test_directories_that_nobody_may_write_to_are_filled_first(tmp_path: Path) -> None:
    data = directory("t", 0o555) + directory("t/d", 0o500) + entry("t/d/f", b"x") + entry("t/late", b"y") + END
    await taken(data, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "d").stat().st_mode) == 0o500
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o555


async def test_bits_that_give_away_rights_are_dropped(tmp_path: Path) -> None:
    data = directory("t", 0o7777) + entry("t/suid", b"x", mode=0o6755) + END
    await taken(data, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "suid").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777


# What is not


def many(count: int) -> bytes:
    return b"".join(entry(f"t/{number}") for number in range(count))


HOSTILE: dict[str, bytes] = {
    "absolute": entry("/etc/x", b"x"),
    "absolute below": entry("t//../../x", b"x"),
    "parent": entry("../outside/victim", b"x"),
    "parent inside": entry("t/../../outside/victim", b"x"),
    "parent of a pax header": directory("t") + pax(path="t/../../evil") + entry("t/x", b"x"),
    "parent of a long name": directory("t") + entry("././@LongLink", b"t/../evil\0", kind=b"L") + entry("t/x", b"x"),
    "parent as a directory": directory("t/.."),
    "another name": entry("other", b"x"),
    "a name that begins so": entry("t2/x", b"x"),
    "the target twice": entry("t", b"x") + entry("t", b"y"),
    "the target as a file, then more in it": entry("t", b"x") + entry("t/x", b"y"),
    "the target as a link, then more in it": symlink("t", "outside") + entry("t/victim", b"y"),
    "the target as a directory, then a link": directory("t") + symlink("t", "outside") + entry("t/victim", b"x"),
    "through a link": symlink("t/l", "../outside") + entry("t/l/victim", b"x"),
    "through an absolute link": symlink("t/l", "/etc") + entry("t/l/x", b"x"),
    "through a link as a directory": symlink("t/l", "../outside") + directory("t/l") + entry("t/l/victim", b"x"),
    "through two links": symlink("t/a", "b") + symlink("t/b", "../outside") + entry("t/a/victim", b"x"),
    "a link over a directory": directory("t/d") + symlink("t/d", "../outside") + entry("t/d/victim", b"x"),
    "a file over a directory": directory("t/d") + entry("t/d", b"x"),
    "a directory over a file": entry("t/f", b"x") + directory("t/f"),
    "a hard link out": entry("t/h", kind=b"1", link=b"../outside/victim"),
    "a hard link to anywhere": entry("t/h", kind=b"1", link=b"/etc/passwd"),
    "a hard link to what is not there": entry("t/h", kind=b"1", link=b"t/x"),
    "a hard link to a directory": directory("t/d") + entry("t/h", kind=b"1", link=b"t/d"),
    "a hard link with content": entry("t/x", b"x") + entry("t/h", b"content", kind=b"1", link=b"t/x"),
    "a device": entry("t/d", kind=b"3"),
    "a block device": entry("t/d", kind=b"4"),
    "a named pipe": entry("t/p", kind=b"6"),
    "a sparse file": entry("t/s", b"x", kind=b"S"),
    "a pax sparse file": pax(GNU__sparse__major="1") + entry("t/s", b"x"),
    "an unknown kind": entry("t/v", kind=b"V"),
    "a directory with content": entry("t/d/", b"content", kind=b"5"),
    "a global name": pax(b"g", path="t/y") + entry("t/x", b"x"),
    "a link to nowhere": entry("t/l", kind=b"2"),
    "no name": make_header(b"", b"0", mode=0),
    "a nul in a pax name": pax(path=b"t/\0x") + entry("t/x", b"x"),
    "a very long name": entry("t/" + "x" * 5000, b"x"),
    "a long component": entry("t/" + "x" * 256, b"x"),
    "a very deep path": entry("t/" + "x/" * 300 + "x", b"x"),
    "a huge pax header": make_header(b"p", b"x", mode=0, size=1 << 20) + bytes(1 << 20) + entry("t", b"x"),
    "a huge long name": make_header(b"p", b"L", mode=0, size=1 << 40),
    "a malformed pax header": entry("p", b"this is no record\n", kind=b"x") + entry("t", b"x"),
    "a negative pax size": pax(size="-1") + entry("t/x", b"x"),
    "a pax size that is no number": pax(size="0x") + entry("t/x", b"x"),
    "too many bytes": entry("t/x", b"x" * 20_000),
    "too many bytes, said only": directory("t") + make_header(b"t/x", b"0", mode=0, size=1 << 50),
    "too many entries": many(60),
    "too many directories": b"".join(directory(f"t/{number}") for number in range(60)),
    "too many global headers": pax(b"g", a="b") * 60 + entry("t", b"x"),
    "extra headers one after the other": pax(a="b") * 2 + entry("t", b"x"),
    "a damaged header": entry("t", b"x")[:300] + b"!" + entry("t", b"x")[301:],
    "no archive at all": b"<html>not found</html>".ljust(BLOCK, b" "),
    "nothing": b"",
}


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.replace(" ", "-"))
async def test_what_is_hostile_or_malformed_is_refused_and_leaves_nothing(
    tmp_path: Path, outside: Path, case: str
) -> None:
    before = everything(tmp_path)
    with pytest.raises(ArchiveError):
        await taken(HOSTILE[case] + END, tmp_path / "new" / "target", max_bytes=10_000, max_entries=50)
    assert everything(tmp_path) == before
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises((ArchiveError, LocalFileError)):
        await taken(HOSTILE[case] + END, target, max_bytes=10_000, max_entries=50)
    assert everything(outside) == {"victim": b"safe"}
    assert list(target.rglob(".gitmachine-*")) == []


async def test_nothing_is_written_through_links_that_were_there_before(tmp_path: Path, outside: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "dir").symlink_to(outside)
    (target / "file").symlink_to(outside / "victim")
    await taken(entry("t/file", b"pwned") + END, target)
    with pytest.raises(NotADirectoryError, match=r"target/dir.*nothing is written through a link"):
        await taken(entry("t/dir/victim", b"pwned") + END, target)
    assert everything(outside) == {"victim": b"safe"}
    assert (target / "file").read_bytes() == b"pwned"


async def test_nothing_is_written_through_hard_links_that_were_there_before(tmp_path: Path, outside: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").hardlink_to(outside / "victim")
    await taken(entry("t/file", b"pwned") + END, target)
    assert everything(outside) == {"victim": b"safe"}


async def test_bounds_are_errors_of_their_own(tmp_path: Path) -> None:
    for data, limits in ((entry("t", b"12345"), {"max_bytes": 4}), (many(3), {"max_entries": 2})):
        with pytest.raises(ArchiveError) as caught:
            await taken(data + END, tmp_path / "x", **limits)
        assert caught.value.errno == errno.EFBIG
    assert await taken(entry("t", b"12345") + END, tmp_path / "x", max_bytes=5, max_entries=1) == Transfer(
        files=1, bytes=5
    )


async def test_names_are_bounded_together(tmp_path: Path) -> None:
    long = "/".join("x" * 250 for _ in range(15))
    data = b"".join(entry(f"t/{long}/{number}") for number in range(400))
    with pytest.raises(ArchiveError, match="too long altogether"):
        await taken(data + END, tmp_path / "x", max_entries=1000)
    assert not (tmp_path / "x").exists()


async def test_an_archive_that_is_cut_off_anywhere_leaves_nothing(tmp_path: Path) -> None:
    data = directory("t") + entry("t/a", b"a" * 700) + symlink("t/l", "a") + entry("t/sub/b", b"b")
    for length in range(0, len(data) + 1, 97):
        with pytest.raises(ArchiveError, match=r"ends early|is empty"):
            await taken(data[:length], tmp_path / "x")
        assert everything(tmp_path) == {}
    with pytest.raises(ArchiveError, match="ends early"):
        await taken(entry("t", b"one file"), tmp_path / "p" / "x")
    assert everything(tmp_path) == {}


async def test_an_archive_that_never_ends_is_refused(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield entry("t", b"x")
        while True:
            yield bytes(1 << 16)

    with pytest.raises(ArchiveError, match="on and on"):
        await unpack(endless(), tmp_path / "x", name="t")
    assert everything(tmp_path) == {}


# What goes wrong here


@pytest.mark.parametrize(
    ("data", "make", "expected"),
    [
        (entry("t", b"x"), lambda path: path.mkdir(), IsADirectoryError),
        (symlink("t", "x"), lambda path: path.mkdir(), IsADirectoryError),
        (directory("t"), lambda path: path.write_text("old"), NotADirectoryError),
        (entry("t/x", b"x"), lambda path: path.write_text("old"), NotADirectoryError),
        (entry("t/x", b"x"), lambda path: path.symlink_to("nowhere"), FileNotFoundError),
    ],
)
async def test_a_file_onto_a_directory_and_the_reverse_are_errors(
    tmp_path: Path, data: bytes, make: Callable[[Path], object], expected: type[OSError]
) -> None:
    make(tmp_path / "target")
    before = everything(tmp_path)
    with pytest.raises(expected, match="target") as caught:
        await taken(data + END, tmp_path / "target")
    assert isinstance(caught.value, LocalFileError)
    assert everything(tmp_path) == before


async def test_parents_that_cannot_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/sub"):
        await taken(entry("t", b"x") + END, tmp_path / "file" / "sub" / "x")


async def test_a_source_that_fails_leaves_nothing_and_its_error_comes_through(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield directory("t") + entry("t/whole", b"x") + entry("t/part", b"y" * 5000)[:3000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await unpack(failing(), tmp_path / "a" / "b", name="t")
    assert everything(tmp_path) == {}


async def test_a_cancellation_leaves_nothing(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield directory("t") + entry("t/part", b"y" * (3 << 20))[: 2 << 20]
        yield bytes(1 << 20)
        reached.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(unpack(stuck(), tmp_path / "x", name="t"))
    await asyncio.wait_for(reached.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert everything(tmp_path) == {}


async def test_what_was_there_stays_when_something_fails(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old").write_text("old")
    with pytest.raises(ArchiveError):
        await taken(entry("t/old", b"new" * 1000)[:1000], tmp_path / "x")
    assert everything(tmp_path) == {"x": None, "x/old": b"old"}


# Any tree, any archive

path_names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."}
)
trees = st.recursive(
    st.binary(max_size=2000) | st.builds(lambda text: ("link", text), path_names),
    lambda children: st.dictionaries(path_names, children, max_size=4),
    max_leaves=12,
)


def build(path: bytes, what: object) -> None:
    if isinstance(what, dict):
        Path(os.fsdecode(path)).mkdir()
        for name, child in what.items():
            build(path + b"/" + name, child)
    elif isinstance(what, tuple):
        Path(os.fsdecode(path)).symlink_to(os.fsdecode(what[1]))
    else:
        assert isinstance(what, bytes)
        Path(os.fsdecode(path)).write_bytes(what)


@settings(max_examples=60, deadline=None)
@given(tree=trees)
def test_any_tree_comes_back_as_it_was(tree: object) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        build(os.fsencode(root / "src"), tree)

        async def there_and_back() -> Transfer:
            return await unpack(pack(root / "src", name="n"), root / "out", name="n")

        transfer = asyncio.run(there_and_back())
        assert everything(root / "src") == everything(root / "out")
        assert (root / "src").is_dir() == (root / "out").is_dir()
        assert transfer.files == sum(
            value is not None for value in everything(root / "src").values()
        ) or not isinstance(tree, dict)


archive_names = st.sampled_from(
    ["t", "t/a", "t/b", "t/a/b", "t/../x", "../x", "/x", "t/a/../../x", "x", "t/./a", "t//b", "."]
)
parts = st.lists(
    st.builds(
        entry,
        archive_names,
        st.binary(max_size=600),
        kind=st.sampled_from([b"0", b"0", b"5", b"2", b"1", b"x", b"L", b"K", b"g", b"3", b"S"]),
        link=st.sampled_from([b"", b"..", b"t/a", b"../outside", b"a", b"/etc"]),
        mode=st.integers(0, 0o7777),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    parts=parts,
    cut=st.none() | st.integers(0, 4000),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 255)), max_size=2),
)
def test_no_archive_whatsoever_gets_out_of_the_target(
    parts: list[bytes], cut: int | None, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(b"".join(parts) + END)
    for at, flip in flips:
        if at < len(data):
            data[at] ^= flip
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "outside").mkdir()
        (root / "outside" / "victim").write_text("safe")
        try:
            asyncio.run(taken(bytes(data[:cut]), root / "target"))
        except (ArchiveError, LocalFileError):
            assert not os.path.lexists(root / "target")
        names = {path.name for path in root.iterdir()}
        assert names <= {"outside", "target"}
        assert everything(root / "outside") == {"victim": b"safe"}
        for path in (root / "target").rglob("*"):
            status = path.lstat()
            assert not status.st_mode & 0o7000
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3000))
def test_no_bytes_whatsoever_are_more_than_an_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            asyncio.run(taken(data, Path(scratch, "target")))
        except ArchiveError:
            assert list(Path(scratch).iterdir()) == []


async def test_hostile_archives_of_the_standard_library_are_refused_too(tmp_path: Path, outside: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        link = tarfile.TarInfo("t/" + "d" * 150)
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        victim = tarfile.TarInfo("t/" + "d" * 150 + "/victim")
        victim.size = 5
        archive.addfile(victim, io.BytesIO(b"pwned"))
    with pytest.raises(ArchiveError, match="contradicts itself"):
        await taken(made.getvalue(), tmp_path / "x")
    assert everything(outside) == {"victim": b"safe"}
    assert not (tmp_path / "x").exists()
