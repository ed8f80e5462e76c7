"""Show GitMachine at work: a command changes a real repository in a sandbox, and its work arrives as a branch.

Without arguments it makes a repository of its own, in `demo/`, with more than a thousand commits, an executable file, a
symlink and a file whose name is not ASCII. Run it again and the session goes on from where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[1] / "demo"
SESSION = "demo"
COMMITS = 1200
FIRST_TIME = 1_700_000_000

WORK = r"""
set -eu
echo "in the machine: $(git rev-list --count HEAD) commits, branch $(git symbolic-ref --short HEAD)"
set -- /proc/[0-9]*
echo "processes to be seen here: $#"
if [ -x tools/count.sh ]; then ./tools/count.sh; fi
mkdir -p runs
number=$(($(ls runs | wc -l) + 1))
for step in 1 2 3; do echo "working ... $step"; sleep 0.2; done
echo "this is run $number" | tee "runs/$number.txt"
"""


def _data(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield b"data %d\n%s\n" % (len(raw), raw)


def _history() -> Iterator[bytes]:
    """Yield a stream for `git fast-import`: a small library that grew for 1200 commits."""
    for number in range(1, COMMITS + 1):
        yield b"commit refs/heads/main\n"
        yield b"committer Demo <demo@example.org> %d +0000\n" % (FIRST_TIME + number * 3600)
        yield from _data(f"Chapter {number}")
        yield b"M 100644 inline chapters/%03d.txt\n" % (number % 200)
        yield from _data(f"chapter {number % 200}, revision {number // 200}\n")
        if number == 1:
            yield b"M 100644 inline README.md\n"
            yield from _data("# A demonstration\n")
            yield b"M 100755 inline tools/count.sh\n"
            yield from _data('#!/bin/sh\necho "$(ls chapters | wc -l) chapters"\n')
            yield b"M 120000 inline start\n"
            yield from _data("chapters/001.txt")
            yield 'M 100644 inline "notes-äöü-日本.txt"\n'.encode()
            yield from _data("a name that is not ASCII\n")
    yield b"done\n"


def _git(*argv: str, data: bytes | None = None) -> str:
    done = subprocess.run(["git", *argv], check=True, stdout=subprocess.PIPE, input=data)
    return done.stdout.decode("utf-8", "replace")


def make_repository(path: Path) -> None:
    """Make the bare repository, once."""
    if (path / "made").exists():
        return
    shutil.rmtree(path, ignore_errors=True)
    print(f"making a repository of {COMMITS} commits in {path}", flush=True)
    _git("init", "--quiet", "--bare", "--initial-branch=main", str(path))
    _git("-C", str(path), "fast-import", "--quiet", "--done", data=b"".join(_history()))
    (path / "made").touch()


def gitmachine(*argv: str) -> list[str]:
    """Return the command line of the command that was installed beside this interpreter."""
    return [str(Path(sys.executable).parent / "gitmachine"), *argv]


def isolation() -> tuple[str, ...]:
    """Return the option for a host that cannot have a sandbox, after saying so; nothing where it can."""
    done = subprocess.run(gitmachine("doctor", "local", "--json"), stdout=subprocess.PIPE, check=False)
    if done.returncode == 0:
        return ()
    print("no sandbox can be had here ('gitmachine doctor local' says why): running with isolation=none", flush=True)
    return ("-o", "isolation=none")


def show_branch(repository: str) -> None:
    """Print what the remote has now."""
    path = Path(unquote(repository.removeprefix("file://")))
    if not path.exists():
        print(_git("ls-remote", "--heads", repository, SESSION), end="")
        return
    print(f"\n$ git log --oneline --stat -3 {SESSION}   # in {path}")
    print(_git("-C", str(path), "log", "--oneline", "--stat", "-3", SESSION), end="")


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description="run a command on a repository in a sandbox")
    parser.add_argument("--repository", help="a repository of your own (a path or URL that you may push to)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the repository and the state are kept")
    wanted = parser.parse_args()
    repository = wanted.repository
    os.environ.setdefault("GITMACHINE_HOME", str(wanted.folder / "home"))
    if repository is None:
        bare = wanted.folder.resolve() / "library.git"
        make_repository(bare)
        repository = bare.as_uri()
    options = ["-p", "local", *isolation(), "-r", repository, "-s", SESSION]
    print(f"$ gitmachine run {shlex.join(options)} -- sh -c '...'", flush=True)
    command = gitmachine("run", *options, "--json", "--stream", "--", "sh", "-c", WORK)
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        return done.returncode  # gitmachine has said why
    print("\nThe receipt, verified with the remote:")
    for name, value in json.loads(done.stdout)["receipt"].items():
        print(f"  {name:11} {json.dumps(value)}")
    show_branch(repository)
    print("\nSay 'make demo' again: the session goes on from this commit.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
