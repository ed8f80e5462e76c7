"""Sample repositories, made fast (one `git fast-import`), and small readers of what is in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO

EXECUTABLE = "bin/tool.sh"
SYMLINK = "link-to-readme"
NON_ASCII = "docs/grüße-日本語.txt"
WHO = b"Ada Tester <ada@example.org>"
EPOCH = 1_700_000_000


def git(*args: str | Path, cwd: str | Path | None = None, stdin: bytes | None = None, check: bool = True) -> str:
    """Run git and return its standard output as text, without the final newline."""
    done = subprocess.run(["git", *map(str, args)], cwd=cwd, input=stdin, capture_output=True, check=False, timeout=100)
    if check and done.returncode != 0:
        shown = " ".join(map(str, args))
        raise AssertionError(f"git {shown} exited {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def _data(stream: IO[bytes], data: bytes) -> None:
    stream.write(b"data %d\n%b\n" % (len(data), data))


def _commit(stream: IO[bytes], ref: str, number: int, message: bytes) -> None:
    stream.write(b"commit %b\n" % os.fsencode(ref))
    stamp = b"%b %d +0000" % (WHO, EPOCH + number * 60)
    stream.write(b"author %b\ncommitter %b\n" % (stamp, stamp))
    _data(stream, message)


def _file(stream: IO[bytes], mode: bytes, path: str, content: bytes) -> None:
    stream.write(b"M %b inline %b\n" % (mode, path.encode()))
    _data(stream, content)


def make_remote(path: Path, *, commits: int = 12, branch: str = "main") -> Path:
    """Make a bare repository with an executable, a symlink and a non-ASCII name; returns its path.

    The branch has `commits` commits, each changing ``log.txt`` or one of ten ``src`` files.
    """
    make_empty_remote(path, branch=branch)
    ref = f"refs/heads/{branch}"
    argv = ["git", "-C", str(path), "fast-import", "--quiet", "--done"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as importer:
        stream = importer.stdin
        assert stream is not None
        for number in range(1, commits + 1):
            _commit(stream, ref, number, b"commit %d\n" % number)
            if number == 1:
                _file(stream, b"100644", "README.md", b"# Sample\n")
                _file(stream, b"100755", EXECUTABLE, b"#!/bin/sh\necho tool\n")
                _file(stream, b"120000", SYMLINK, b"README.md")
                _file(stream, b"100644", NON_ASCII, "grüße\n".encode())
            _file(stream, b"100644", f"src/file{number % 10}.txt", b"version %d\n" % number)
        stream.write(b"done\n")
    assert importer.returncode == 0
    return path


def make_empty_remote(path: Path, *, branch: str = "main") -> Path:
    """Make a bare repository without a commit; returns its path."""
    git("init", "-q", "--bare", f"--initial-branch={branch}", path)
    return path


def add_commit(
    remote: Path, branch: str, files: dict[str, bytes], *, message: str = "another", start: str | None = None
) -> str:
    """Commit files onto a branch of a bare repository (made from `start` if it is new); returns the commit."""
    parent = git("-C", remote, "rev-parse", "--verify", "-q", f"refs/heads/{branch}", check=False) or start
    script = subprocess.Popen(
        ["git", "-C", str(remote), "fast-import", "--quiet", "--done", "--force"], stdin=subprocess.PIPE
    )
    with script:
        stream = script.stdin
        assert stream is not None
        _commit(stream, f"refs/heads/{branch}", 10_000_000, message.encode())
        if parent:
            stream.write(b"from %b\n" % parent.encode())
        for name, content in files.items():
            _file(stream, b"100644", name, content)
        stream.write(b"done\n")
    assert script.returncode == 0
    return tip(remote, branch)


def tip(repository: Path, branch: str) -> str:
    """Return the commit of a branch."""
    return git("-C", repository, "rev-parse", "--verify", f"refs/heads/{branch}")


def show(repository: Path, revision: str) -> str:
    """Return what ``git show`` prints for ``branch:path``."""
    return git("-C", repository, "show", revision)
