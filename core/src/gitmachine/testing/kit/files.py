"""Files: exact bytes, any name, atomic, with errors that say what is wrong."""

from __future__ import annotations

import asyncio
import errno
import hashlib

from gitmachine.errors import (
    MachineError,
    MachineFileError,
    MachineFileNotFoundError,
    MachineIsADirectoryError,
    MachineNotADirectoryError,
)
from gitmachine.testing.kit.base import KitBase
from gitmachine.testing.kit.behaviour import ConformanceFailure, behaviour, check
from gitmachine.testing.kit.stage import Stage, await_file, shown

__all__ = ["FileBehaviours"]

_NAMES = (
    "with space",
    "-dash",
    "--help",
    "quo'te\"s",
    "$(touch pwned)",
    "two\nlines",
    "back\\slash",
    "grüße 日本",
    "\udcff\udcfe",
    "*",
    "x" * 200,
)


class FileBehaviours(KitBase):
    """Reading, writing, listing."""

    @behaviour("file-bytes", "bytes are written and read exactly")
    async def test_file_bytes(self, stage: Stage) -> None:
        """Text-only file operations are the rule; one client wrote the bytes of a neighbouring buffer."""
        data = bytes(range(256)) * 6000 + b"\r\n\n\r"
        await stage.machine.write_file("data.bin", data)
        check(await stage.machine.read_file("data.bin") == data, f"{len(data)} bytes did not come back as they were")
        counted = await stage.good('wc -c < "$1"', "data.bin")
        check(int(counted) == len(data), f"{len(data)} bytes were written, the machine has {counted.strip()}")
        result = await stage.run(["cat", "data.bin"])
        seen = hashlib.sha256(result.stdout_bytes).hexdigest()
        check(seen == hashlib.sha256(data).hexdigest(), "what a command reads is not what was written")

    @behaviour("file-empty", "an empty file is a file")
    async def test_file_empty(self, stage: Stage) -> None:
        """One library reports an empty file as missing."""
        await stage.machine.write_file("empty", b"")
        check(await stage.machine.read_file("empty") == b"", "an empty file is not read as empty")
        await stage.good("test -f empty && test ! -s empty && : > made")
        check(await stage.machine.read_file("made") == b"", "an empty file made by a command is not read as empty")

    @behaviour("file-text", "text is written as UTF-8, with its line ends")
    async def test_file_text(self, stage: Stage) -> None:
        """Text mode on the way turns line ends into those of somebody's platform."""
        text = "grüße\r\n日本\n\ttab\n\nno newline at the end"
        await stage.machine.write_file("text.txt", text)
        seen = await stage.machine.read_file("text.txt")
        check(seen == text.encode(), f"the text {text!r} became {seen!r}")

    @behaviour("file-parents", "missing directories of a file are made")
    async def test_file_parents(self, stage: Stage) -> None:
        """Otherwise every caller has to make them first, by a command."""
        await stage.machine.write_file("a/b c/d/file", b"deep")
        result = await stage.sh('cat "a/b c/d/file"')
        check(result.stdout == "deep", f"a file in new directories holds {result.stdout!r}")

    @behaviour("file-paths", "relative paths start from the working directory; absolute ones are absolute")
    async def test_file_paths(self, stage: Stage) -> None:
        """Depending on the operation, relative paths start from the home, the root, or the service's own directory."""
        await stage.good("mkdir -p sub && echo one > sub/one")
        absolute = stage.path("sub/one")
        check(await stage.machine.read_file("sub/one") == b"one\n", "a relative path was not found")
        check(await stage.machine.read_file(absolute) == b"one\n", f"the path {absolute} was not found")
        await stage.machine.write_file("sub/two", b"2")
        await stage.machine.write_file(stage.path("sub/three"), b"3")
        for path in ("sub", stage.path("sub")):
            names = await stage.machine.list_files(path)
            check(names == ["one", "three", "two"], f"{path} holds one, three, two; listed was {names}")
        check("sub" in await stage.machine.list_files(), "without a path the working directory is listed")
        result = await stage.sh("cat sub/two sub/three")
        check(result.stdout == "23", f"files written by path hold {result.stdout!r}")

    @behaviour("file-atomic", "a file is replaced at once: whoever reads the old one keeps it")
    async def test_file_atomic(self, stage: Stage) -> None:
        """Half-written files are what a reader finds when the connection breaks, and what a running script executes."""
        there = set(await stage.machine.list_files())
        await stage.machine.write_file("file", b"old content\n")
        script = f"exec 3<file; echo x > opened; {await_file('go')}; cat <&3; cat file"
        async with stage.running(stage.sh(script)) as command:
            await stage.until("a command opens the file", lambda: _exists(stage, "opened"))
            await stage.machine.write_file("file", b"new\n")
            await stage.signal("go")
            result = await stage.within("the command ends", command)
        check(
            result.stdout == "old content\nnew\n",
            f"a reader of the old file, then of the new one, found {result.stdout!r}",
        )
        names = await stage.machine.list_files()
        rest = sorted(set(names) - there - {"file", "opened", "go"})
        extra = [name for name in rest if "file" in name or "tmp" in name or "gitmachine" in name]
        check(not extra, f"writing left {extra} behind")

    @behaviour("file-mode", "an existing file keeps its mode")
    async def test_file_mode(self, stage: Stage) -> None:
        """A script that is edited through the sandbox's file service can no longer be executed."""
        await stage.good("printf '#!/bin/sh\\necho old\\n' > tool && chmod 750 tool")
        await stage.machine.write_file("tool", b"#!/bin/sh\necho new\n")
        result = await stage.sh("./tool && ls -l tool | cut -c 1-10")
        check(result.stdout == "new\n-rwxr-x---\n", f"a script of mode 750, replaced, gave {result.stdout!r}")

    @behaviour("file-names", "names with spaces, newlines, leading dashes and quotes work everywhere")
    async def test_file_names(self, stage: Stage) -> None:
        """Listings made by `ls` fall apart at newlines; names reach `cat` and `rm` unquoted, or as options."""
        await stage.good("mkdir names")
        for name in _NAMES:
            await stage.machine.write_file(f"names/{name}", name.encode("utf-8", "surrogateescape"))
        seen = await stage.machine.list_files("names")
        missing, extra = sorted(set(_NAMES) - set(seen)), sorted(set(seen) - set(_NAMES))
        check(not missing and not extra, f"listed without {missing!r}, and with {extra!r}")
        for name in _NAMES:
            data = await stage.machine.read_file(f"names/{name}")
            check(data == name.encode("utf-8", "surrogateescape"), f"the file {name!r} holds {data!r}")
        await stage.machine.write_file("-leading", b"dash")
        check(await stage.machine.read_file("-leading") == b"dash", "a file named -leading cannot be read")
        check("pwned" not in await stage.machine.list_files(), "a file's name was run as a command")

    @behaviour("file-list", "a listing is sorted, with hidden names and directories, without . and ..")
    async def test_file_list(self, stage: Stage) -> None:
        """Plain `ls` hides names and sorts as the locale likes."""
        await stage.good("mkdir -p d/sub d/empty && : > d/b && : > d/B && : > d/.hidden && ln -s nowhere d/link")
        names = await stage.machine.list_files("d")
        wanted = [".hidden", "B", "b", "empty", "link", "sub"]
        check(names == wanted, f"expected {wanted}, listed was {names}")
        check(await stage.machine.list_files("d/empty") == [], "an empty directory is not listed as empty")

    @behaviour("file-limit", "a file larger than the caller's limit is refused")
    async def test_file_limit(self, stage: Stage) -> None:
        """A log of some gigabytes, read in one piece, ends the client; one tool in ten has a limit."""
        await stage.machine.write_file("file", b"x" * 1000)
        data = await stage.machine.read_file("file", max_bytes=1000)
        check(len(data) == 1000, f"a file of just the limit's size gave {len(data)} bytes")
        await _refused(stage, "file", 999, errno.EFBIG)

    @behaviour("file-endless", "a file without end is an error, not a wait")
    async def test_file_endless(self, stage: Stage) -> None:
        """A hostile machine can have a device, or a pipe that nobody writes to, where a file is expected."""
        await stage.good("mkfifo pipe")
        await _refused(stage, "/dev/zero", 100_000, None)
        await _refused(stage, "pipe", 100_000, None)

    @behaviour("file-errors", "each failure is its own error and names the path")
    async def test_file_errors(self, stage: Stage) -> None:
        """A missing file is None, an empty string, a generic error or an exit code of `cat`, depending on the tool."""
        await stage.good("mkdir -p d && echo x > file")
        machine = stage.machine
        cases = (
            ("reading a missing file", lambda: machine.read_file("nowhere"), MachineFileNotFoundError, "nowhere"),
            ("listing a missing directory", lambda: machine.list_files("nowhere"), MachineFileNotFoundError, "nowhere"),
            ("reading a directory", lambda: machine.read_file("d"), MachineIsADirectoryError, "d"),
            ("writing a directory", lambda: machine.write_file("d", b""), MachineIsADirectoryError, "d"),
            ("listing a file", lambda: machine.list_files("file"), MachineNotADirectoryError, "file"),
            ("reading below a file", lambda: machine.read_file("file/x"), MachineNotADirectoryError, "file/x"),
        )
        for what, call, expected, path in cases:
            try:
                await call()
            except MachineError as error:
                check(
                    isinstance(error, expected),
                    f"{what} raised {type(error).__name__}, not {expected.__name__}: {error}",
                )
                check(path in str(error), f"the error of {what} has to name {path!r}: {error}")
            else:
                raise ConformanceFailure(f"{what} raised nothing, where {expected.__name__} is expected")
        check(await stage.size("file") == 2, "a failed operation changed a file")

    @behaviour("file-parallel", "many file operations at once do not get into each other's way")
    async def test_file_parallel(self, stage: Stage) -> None:
        """A temporary file of one fixed name is enough to mix up what is written at the same time."""
        machine = stage.machine
        await stage.good("mkdir p")
        contents = {f"p/file-{number}": bytes([number]) * 20_000 for number in range(16)}
        await asyncio.gather(*(machine.write_file(name, data) for name, data in contents.items()))
        seen = await asyncio.gather(*(machine.read_file(name) for name in contents))
        for (name, data), found in zip(contents.items(), seen, strict=True):
            check(found == data, f"{name}, written beside 15 others, holds {shown(found)}")
        check(len(await machine.list_files("p")) == 16, "writing side by side left other files behind")

    @behaviour("file-full-disk", "a full disk is ENOSPC, and the old file stays")
    async def test_file_full_disk(self, stage: Stage) -> None:
        """A truncated configuration, or a repository with half an object, is worse than an error."""
        await stage.machine.write_file("file", b"old")
        await self.fill_disk(stage.raw)
        try:
            await stage.machine.write_file("file", b"x" * (1 << 20))
        except MachineFileError as error:
            check(error.errno == errno.ENOSPC, f"a full disk was reported with errno {error.errno}: {error}")
        else:
            raise ConformanceFailure("writing to a full disk raised nothing")
        check(await stage.machine.read_file("file") == b"old", "the old file is gone after a write that failed")


async def _exists(stage: Stage, name: str) -> bool:
    return await stage.size(name) > 0


async def _refused(stage: Stage, path: str, limit: int, number: int | None) -> None:
    try:
        data = await stage.within(f"{path} is refused", stage.machine.read_file(path, max_bytes=limit))
    except MachineFileError as error:
        check(number in {None, error.errno}, f"reading {path} raised errno {error.errno}, not {number}: {error}")
    else:
        raise ConformanceFailure(f"reading {path} with a limit of {limit} bytes returned {len(data)} bytes")
