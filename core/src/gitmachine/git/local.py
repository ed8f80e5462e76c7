"""Repositories of this host, looked at without running git in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_repository", "is_shallow"]


def is_repository(path: Path) -> bool:
    """Whether git would take a directory for a repository, or for the top of its working tree.

    What cannot be looked at counts as one: git says more about it than we could.
    """
    try:
        os.scandir(path).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return os.path.lexists(path / ".git") or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def is_shallow(path: Path) -> bool:
    """Whether a repository lacks the beginning of its history; of a linked worktree it is not told."""
    return any((folder / "shallow").is_file() for folder in (path / ".git", path))
