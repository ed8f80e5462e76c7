"""Files and directories between the host and the machine: whole, exact, and harmless to the host."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitmachine.errors import GitMachineError, MachineFileError
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from gitmachine.testing.kit.stage import Stage

__all__ = ["TransferBehaviours"]

_BIG_BYTES = 24 * 1024 * 1024
_LONG = "y" * 180
_NAMES = ("plain", "with space", "-dash", "two\nlines", "quo'te\"s", "$(touch pwned)", "*", "grüße", _LONG)
_WHEN = 1_500_000_000

# $1 a directory, $2 to last the names; for each what it holds
_READ_BACK = 'cd -- "$1" && shift && for name; do cat -- "./$name" || exit 1; echo; done'


@asynccontextmanager
async def _here() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gitmachine-kit-") as directory:
        yield Path(directory)


def _make_tree(root: Path) -> None:
    """Make a directory with everything that a tree may have."""
    (root / "sub" / _LONG).mkdir(parents=True)
    (root / "empty directory").mkdir()
    for name in _NAMES:
        (root / name).write_text(f"<{name}>", encoding="utf-8")
    (root / "sub" / _LONG / "deep").write_bytes(bytes(range(256)))
    (root / "nothing").write_bytes(b"")
    (root / "script").write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    (root / "script").chmod(0o755)
    (root / "private").write_text("mine", encoding="utf-8")
    (root / "private").chmod(0o600)
    (root / "link").symlink_to("plain")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.utime(root / "plain", (_WHEN, _WHEN))


def _seen(root: Path) -> dict[str, str]:
    """Return what is below a directory of the host: for each path its kind, who may do what, and what it holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = f"{path.lstat().st_mode & 0o7777:o}"
        if path.is_symlink():
            what = f"link to {path.readlink()}"
        elif path.is_dir():
            what = "directory"
        else:
            what = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        found[str(path.relative_to(root))] = what
    return found


class TransferBehaviours(KitBase):
    """Uploading and downloading."""

    @behaviour("upload-tree", "a directory arrives whole: names, contents, modes, links, empty directories")
    async def test_upload_tree(self, stage: Stage) -> None:
        """Copies that follow links, skip empty directories, or forget that a script can be run are the rule."""
        async with _here() as here:
            _make_tree(here / "tree")
            transfer = await stage.within("a tree is uploaded", stage.machine.upload(here / "tree", "a b/tree"))
            count = len(_NAMES) + 6
            check(transfer.files == count, f"{count} files and links were uploaded, {transfer.files} were counted")
            read = await stage.good(_READ_BACK, "a b/tree", *_NAMES)
            wanted = "".join(f"<{name}>\n" for name in _NAMES)
            check(read == wanted, f"the files of a tree hold {read!r}, not {wanted!r}")
            deep = await stage.machine.read_file(f"a b/tree/sub/{_LONG}/deep")
            check(deep == bytes(range(256)), "a file in a directory with a long name did not arrive as it was")
            tests = "test -d 'empty directory' && test -f nothing && test ! -s nothing && test ! -x plain"
            await stage.good(f"cd 'a b/tree' && {tests}")
            check(await stage.good("'a b/tree/script'") == "ran\n", "an executable script cannot be run")
            links = await stage.good("cd 'a b/tree' && readlink link && readlink dangling")
            check(links == "plain\n/nowhere/at all\n", f"the links of a tree lead to {links!r}")

    @behaviour("upload-merge", "a directory is merged into one that is there; a file replaces a file")
    async def test_upload_merge(self, stage: Stage) -> None:
        """Some put it inside under its own name the second time, some empty the directory first."""
        await stage.good("mkdir -p d/sub && echo old > d/kept && echo old > d/sub/replaced && chmod 750 d")
        async with _here() as here:
            (here / "sub").mkdir()
            (here / "sub" / "replaced").write_text("new\n", encoding="utf-8")
            (here / "sub" / "added").write_text("new\n", encoding="utf-8")
            await stage.machine.upload(here, "d")
            await stage.machine.upload(here / "sub" / "added", "d/kept too")
            await stage.machine.upload(here / "sub" / "added", "d/kept too")
        names = sorted((await stage.good('cd d && for name in * sub/*; do echo "$name"; done')).splitlines())
        check(names == ["kept", "kept too", "sub", "sub/added", "sub/replaced"], f"after a merge there are {names}")
        read = await stage.good("cat d/kept d/sub/replaced d/sub/added 'd/kept too'")
        check(read == "old\nnew\nnew\nnew\n", f"after a merge the files hold {read!r}")

    @behaviour("download-tree", "a directory comes back as it was sent")
    async def test_download_tree(self, stage: Stage) -> None:
        """What went in and out again differs, with most, in modes, links, or names that are not plain."""
        async with _here() as here:
            _make_tree(here / "tree")
            await stage.machine.upload(here / "tree", "tree")
            transfer = await stage.within("it comes back", stage.machine.download("tree", here / "p" / "back"))
            there, back = _seen(here / "tree"), _seen(here / "p" / "back")
            different = sorted(name for name in there.keys() | back.keys() if there.get(name) != back.get(name))
            shown = {name: (there.get(name), back.get(name)) for name in different[:3]}
            check(not different, f"a tree that went in and out differs (sent, came back): {shown}")
            check(transfer.files == len(_NAMES) + 6, f"{transfer.files} files were counted")
            when = (here / "p" / "back" / "plain").stat().st_mtime
            check(when == _WHEN, f"a file changed at {_WHEN} came back as changed at {when}")
            await stage.machine.download("tree/script", here / "p" / "back" / "plain")
            check((here / "p/back/plain").read_text(encoding="utf-8").startswith("#!"), "a file was not replaced")

    @behaviour("transfer-big", "a file of many megabytes goes in and out exactly")
    async def test_transfer_big(self, stage: Stage) -> None:
        """A chunk lost or sent twice shows in large files only."""
        async with _here() as here:
            block = os.urandom(1 << 20)
            with (here / "big").open("wb") as file:
                for number in range(_BIG_BYTES >> 20):
                    file.write(number.to_bytes(4, "big") + block[4:])
            transfer = await stage.within("a big file is uploaded", stage.machine.upload(here / "big", "big"))
            check(transfer.bytes == _BIG_BYTES, f"{_BIG_BYTES} bytes were uploaded, {transfer.bytes} were counted")
            size = await stage.good("wc -c < big")
            check(int(size) == _BIG_BYTES, f"of {_BIG_BYTES} bytes {size.strip()} arrived")
            await stage.within("a big file is downloaded", stage.machine.download("big", here / "back"))
            check((here / "back").read_bytes() == (here / "big").read_bytes(), "a big file came back changed")

    @behaviour("transfer-errors", "each failure of a transfer is its own error, and changes nothing")
    async def test_transfer_errors(self, stage: Stage) -> None:
        """A file that lands inside the directory it was to replace is found by nobody."""
        machine = stage.machine
        await stage.good("mkdir d && echo old > f")
        async with _here() as here:
            (here / "d").mkdir()
            (here / "f").write_text("new", encoding="utf-8")
            await _fails(stage, "a file onto a directory", machine.upload(here / "f", "d"), IsADirectoryError)
            await _fails(stage, "a directory onto a file", machine.upload(here / "d", "f"), NotADirectoryError)
            await _fails(stage, "nothing", machine.upload(here / "missing", "g"), FileNotFoundError)
            await _fails(stage, "nothing there", machine.download("missing", here / "g"), FileNotFoundError)
            await _fails(stage, "a file onto a directory here", machine.download("f", here / "d"), IsADirectoryError)
            await _fails(stage, "a directory onto a file here", machine.download("d", here / "f"), NotADirectoryError)
            check(sorted(path.name for path in here.iterdir()) == ["d", "f"], "a failed download left something here")
            check((here / "f").read_text(encoding="utf-8") == "new", "a failed download changed a file here")
        check(await stage.good("cat f; ls d") == "old\n", "a failed upload changed something")

    @behaviour("download-guarded", "whatever the machine has, nothing is written outside of the target")
    async def test_download_guarded(self, stage: Stage) -> None:
        """A machine is hostile until proven otherwise; and a copy that reads a named pipe waits for ever."""
        machine = stage.machine
        await stage.good("mkdir -p t/sub && echo pwned > t/sub/file && echo pwned > t/other && chmod 4755 t/other")
        async with _here() as here:
            outside = here / "outside"
            outside.mkdir()
            (outside / "other").write_text("safe", encoding="utf-8")
            target = here / "target"
            target.mkdir()
            (target / "sub").symlink_to(outside)
            (target / "other").symlink_to(outside / "other")
            try:
                await stage.within("a download ends", machine.download("t", target))
            except (GitMachineError, OSError) as error:
                check(str(target) in str(error), f"what is in the way is not named: {error}")
            inside = {path.name: path.read_text(encoding="utf-8") for path in outside.iterdir()}
            check(inside == {"other": "safe"}, "a download wrote through a link out of its target")
            await stage.within("a download ends", machine.download("t/other", here / "one"))
            mode = (here / "one").stat().st_mode & 0o7777
            check(mode == 0o755, f"a file with the set-user-id bit came with mode {mode:o}")
            await _fails(stage, "too much", machine.download("t", here / "small", max_bytes=3), None, errno.EFBIG)
            check(not (here / "small").exists(), "a download that was refused left its target")
            if (await stage.sh("mkfifo t/pipe 2>/dev/null")).exit_code == 0:
                await _fails(stage, "a named pipe", machine.download("t", here / "pipes"), None)
                check(not (here / "pipes").exists(), "a download that was refused left its target")


async def _fails(
    stage: Stage, what: str, work: Awaitable[object], expected: type[OSError] | None, number: int | None = None
) -> None:
    """Check that a transfer fails in its own way, in time."""
    try:
        await stage.within(f"the transfer of {what} ends", work)
    except GitMachineError as error:
        kind = expected or MachineFileError
        check(isinstance(error, kind), f"{what} raised {type(error).__name__} ({error}), not {kind.__name__}")
        if number is not None:
            found = getattr(error, "errno", None)
            check(found == number, f"{what} raised errno {found}, not {number}: {error}")
    else:
        raise ConformanceFailure(f"the transfer of {what} raised nothing")
