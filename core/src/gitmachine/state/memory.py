"""What a later process needs to go on with a session: kept beside its machine, forgotten when that is gone.

The environment is in it, secrets included, since a later command is to run in the same one; hence a file that only its
owner can read. The repository's credential never is: each process gets it anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Mapping  # noqa: TC003  # attrs and cattrs resolve annotations at run time
from pathlib import Path
from typing import Any

import attrs

from gitmachine.config.structure import structure
from gitmachine.errors import ConfigError, StateError
from gitmachine.git.model import GitIdentity, GitOptions, GuardOptions
from gitmachine.state.places import Places, make_private

__all__ = ["SessionMemory", "forget", "recall", "remember"]

FILE = "session.json"
VERSION = 1


@attrs.frozen(kw_only=True)
class SessionMemory:
    """A session's wishes, as far as another process can use them.

    Attributes:
        repository: the URL without a credential.
        identity: whose commits they are.
        auto_commit: whether pause and stop commit.
        timeout: seconds for each command, or None.
        git: how the repository travels.
        guard: what is kept out of commits.
        env: variables of every command.
        start_sha: the commit that the session started from, or None.
        created: whether the remote had no such branch then.
    """

    repository: str
    identity: GitIdentity = attrs.field(factory=GitIdentity)
    auto_commit: bool = True
    timeout: float | None = None
    git: GitOptions = attrs.field(factory=GitOptions)
    guard: GuardOptions = attrs.field(factory=GuardOptions)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    start_sha: str | None = None
    created: bool = False


async def remember(places: Places, key: str, memory: SessionMemory) -> None:
    """Write the session's file, replacing it as a whole."""
    await asyncio.to_thread(_write, places.machine_dir(key), memory)


def _write(folder: Path, memory: SessionMemory) -> None:
    make_private(folder)
    data = json.dumps({"version": VERSION, **attrs.asdict(memory)})
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".session-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(folder / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def recall(places: Places, key: str) -> SessionMemory:
    """Read the session's file.

    Raises:
        StateError: it is gone, damaged, or from a newer version.
    """
    return await asyncio.to_thread(_read, places.machine_dir(key) / FILE)


def _read(path: Path) -> SessionMemory:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except FileNotFoundError as error:
        raise StateError(f"this host has forgotten how the session was started: {path} is gone") from error
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    version = data.pop("version", None) if isinstance(data, dict) else None
    if version != VERSION:
        raise StateError(f"{path} was written by another version of GitMachine ({version!r}): use that one, or upgrade")
    try:
        return structure(SessionMemory, data)
    except ConfigError as error:
        raise StateError(f"{path} is damaged: {error}") from error


async def forget(places: Places, key: str) -> None:
    """Remove everything kept beside a machine that is gone."""
    await asyncio.to_thread(shutil.rmtree, places.machine_dir(key), ignore_errors=True)
