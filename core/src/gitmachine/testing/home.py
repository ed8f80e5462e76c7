"""A GitMachine home of one's own, so that nothing a test does touches the user's journal and caches."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["private_home"]


@contextlib.contextmanager
def private_home() -> Iterator[str]:
    """Keep GitMachine's own files in a temporary directory meanwhile; a short one, because sockets go there."""
    before = os.environ.get("GITMACHINE_HOME")
    parent = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108  # a private directory is made in it
    with tempfile.TemporaryDirectory(prefix="gmk-", dir=parent, ignore_cleanup_errors=True) as home:
        os.environ["GITMACHINE_HOME"] = home
        try:
            yield home
        finally:
            if before is None:
                del os.environ["GITMACHINE_HOME"]
            else:
                os.environ["GITMACHINE_HOME"] = before
