"""The files of a sandbox, in a directory of the emulator's: made new, copied for a snapshot or a fork, removed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from support.e2b.namespaces import SHARED, privileged

UID = 1000
_OWN = {"home": 0o755, "home/user": 0o755, "root": 0o700, "tmp": 0o1777, "srv": 0o755, "mnt": 0o755, "run": 0o755}


def make(tree: Path) -> None:
    """Make a sandbox's root: directories of its own, and places for what it has of its host."""
    tree.mkdir(mode=0o755, parents=True)
    for name, mode in _OWN.items():
        (tree / name).mkdir()
        (tree / name).chmod(mode)
    if privileged():
        os.chown(tree / "home/user", UID, UID)
    for name in (*SHARED, "proc"):
        host = Path("/", name)
        if host.is_symlink():
            (tree / name).symlink_to(host.readlink())
        elif host.is_dir():
            (tree / name).mkdir()
    for name, text in (("home/user/.bashrc", "PS1='\\u@\\h:\\w\\$ '\n"), ("home/user/.profile", "")):
        (tree / name).write_text(text)
        if privileged():
            os.chown(tree / name, UID, UID)


def make_accounts(directory: Path) -> None:
    """Write the files that say who there is in a sandbox; `one-` ones are for where only one user can be."""
    directory.mkdir()
    rows = Path("/etc/passwd").read_text().splitlines()
    kept = [row for row in rows if row.split(":")[0] != "user" and row.split(":")[2] not in {"0", str(UID)}]
    root, home = "root:x:0:0:root:/root:/bin/bash", "/home/user:/bin/bash"
    passwd = "\n".join([root, *kept, f"user:x:{UID}:{UID}::{home}", ""])
    rows = Path("/etc/group").read_text().splitlines()
    kept = [row for row in rows if row.split(":")[0] != "user" and row.split(":")[2] != str(UID)]
    group = "\n".join([*kept, f"user:x:{UID}:", ""])
    (directory / "passwd").write_text(passwd)
    (directory / "group").write_text(group)
    (directory / "one-passwd").write_text(f"user:x:0:0::{home}\n{root}\n")
    (directory / "one-group").write_text("user:x:0:\nroot:x:0:\n")


def copy(source: Path, target: Path) -> None:
    """Copy a sandbox's files with their owners, times and attributes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = ["cp", "-a", "--reflink=auto", "--", str(source), str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    # A socket cannot be copied, and is of no use without who listened at it.
    if done.returncode != 0 and not (target / "home").is_dir():
        raise OSError(f"cannot copy {source}: {done.stderr}")


def remove(tree: Path) -> None:
    """Remove a tree, whatever modes its directories were given."""

    def again(function: object, path: str, error: object) -> None:
        try:
            Path(path).parent.chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                Path(path).chmod(0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink(missing_ok=True)
        except OSError:
            return  # the emulator's whole directory is removed at its end

    shutil.rmtree(tree, onerror=again)
