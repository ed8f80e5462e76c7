"""Git LFS: noticed before the agent works on pointers that it takes for files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import CloneError
from gitmachine.git.carrying import run_script
from gitmachine.git.host import GitCall, HostGit

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.machine import Machine

__all__ = ["POINTER", "check_lfs", "direct_lfs", "skip_lfs"]

POINTER = "version https://git-lfs.github.com/spec/v1"
"""The first line of every pointer (git-lfs, docs/spec.md)."""

# $1 path  $2 commit  $3 a pointer's first line. Prints "git-lfs" or nothing, NUL, then the files.
_LIST = r"""
cd -- "$1" || exit 94
if git lfs version >/dev/null 2>&1; then printf 'git-lfs'; fi
printf '\0'
g grep -q -F -e filter=lfs "$2" -- ':(glob)**/.gitattributes' .gitattributes || exit 0
g grep -l -z -F -e "$3" "$2"
exit 0
"""
# With filters that copy, pointers stay pointers, and what the agent writes is committed as it is: an object that only
# git-lfs in the machine knew would be lost with it.
_SKIP = r"""
cd -- "$1" || exit 94
g config filter.lfs.smudge cat && g config filter.lfs.clean cat && g config filter.lfs.process '' &&
  g config filter.lfs.required false
"""
_INSTALL = r"""
cd -- "$1" || exit 94
git lfs install --local --skip-repo >&2
"""


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
    shown = _shown(files)
    if choice == "fetch":
        raise CloneError(
            f"the relay cannot bring files of Git LFS ({shown}): set git.transport = 'direct' with git-lfs in the "
            "machine, or git.lfs = 'skip' to work with pointers"
        )
    raise _refusal(shown)


async def skip_lfs(machine: Machine, path: str) -> None:
    """Have the machine's git leave pointers as they are, whether it has git-lfs or not."""
    await run_script(machine, _SKIP, path, doing="configuring Git LFS")


async def direct_lfs(machine: Machine, path: str, commit: str | None, choice: str) -> bool:
    """The same for a repository that is only in the machine; returns whether files are to be fetched.

    Raises:
        CloneError: there are pointers and `choice` is ``error``, or ``fetch`` without git-lfs in the machine.
    """
    if choice == "skip":
        await skip_lfs(machine, path)
    if commit is None or choice == "skip":
        return False
    answer = await run_script(machine, _LIST, path, commit, POINTER, doing="looking for Git LFS")
    installed, *names = answer.decode("utf-8", "surrogateescape").split("\0")
    files = [name.removeprefix(f"{commit}:") for name in names if name]
    if not files:
        return False
    if choice == "error":
        raise _refusal(_shown(files))
    if installed != "git-lfs":
        raise CloneError(
            f"the repository keeps files in Git LFS ({_shown(files)}), and git-lfs is not installed in the machine: "
            "install it there, or set git.lfs = 'skip' to work with the pointers"
        )
    await run_script(machine, _INSTALL, path, doing="configuring Git LFS")
    return True


def _shown(files: list[str]) -> str:
    return f"{files[0]!r}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _refusal(shown: str) -> CloneError:
    return CloneError(
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
