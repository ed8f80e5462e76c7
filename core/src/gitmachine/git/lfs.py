"""Git LFS: noticed before the agent works on pointers that it takes for files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import CloneError
from gitmachine.git.host import GitCall, HostGit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["POINTER", "check_lfs"]

POINTER = "version https://git-lfs.github.com/spec/v1"
"""The first line of every pointer (git-lfs, docs/spec.md)."""


async def check_lfs(host: HostGit, git_dir: Path, commit: str | None, choice: str) -> None:
    """Look into a commit of the mirror for files of Git LFS.

    Raises:
        CloneError: there are some and `choice` is ``error``, or ``fetch``, which the relay cannot do.
    """
    if commit is None or choice == "skip":
        return
    files = await lfs_files(host, git_dir, commit)
    if not files:
        return
    shown = f"{files[0]!r}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    if choice == "fetch":
        raise CloneError(
            f"the relay cannot bring files of Git LFS ({shown}): set git.transport = 'direct' with git-lfs in the "
            "machine, or git.lfs = 'skip' to work with pointers"
        )
    raise CloneError(
        f"the repository keeps files in Git LFS ({shown}), and only their pointers would be there: set git.lfs = "
        "'skip' to work with the pointers, or 'fetch' with git.transport = 'direct'"
    )


async def lfs_files(host: HostGit, git_dir: Path, commit: str) -> list[str]:
    """Return the paths of LFS pointers in a commit; looks at the files only when attributes speak of LFS."""
    attributes = ("--", ":(glob)**/.gitattributes", ".gitattributes")
    if not await _grep(host, git_dir, "filter=lfs", commit, *attributes):
        return []
    return await _grep(host, git_dir, POINTER, commit)


async def _grep(host: HostGit, git_dir: Path, text: str, commit: str, *paths: str) -> list[str]:
    args = ("grep", "-l", "-z", "-F", "-e", text, commit, *paths)
    result = await host.run(GitCall(args=args, git_dir=git_dir, check=False))
    names = result.stdout.decode("utf-8", "surrogateescape").split("\0")
    return [name.removeprefix(f"{commit}:") for name in names if name]
