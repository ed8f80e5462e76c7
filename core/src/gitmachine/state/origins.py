"""Where a session's work belongs, kept beside its repository: it outlives the machine and the journal's row."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import StateError
from gitmachine.state.places import make_private

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.state.places import Places

__all__ = ["Origin", "forget_origin", "recall_origin", "remember_origin"]


@attrs.frozen(kw_only=True)
class Origin:
    """The remote and the branch of a session.

    Attributes:
        repository: the remote's URL, without a credential.
        session: the session branch.
    """

    repository: str
    session: str


def _file(places: Places, key: str) -> Path:
    return places.sessions / f"{key}.json"


async def remember_origin(places: Places, key: str, origin: Origin) -> None:
    """Write it, replacing what was there as a whole."""
    await asyncio.to_thread(_write, _file(places, key), attrs.asdict(origin))


def _write(path: Path, data: dict[str, Any]) -> None:
    make_private(path.parent)
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as stream:
            json.dump(data, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


async def recall_origin(places: Places, key: str) -> Origin | None:
    """Read it; None when it was never written, or is gone.

    Raises:
        StateError: it is damaged.
    """
    return await asyncio.to_thread(_read, _file(places, key))


def _read(path: Path) -> Origin | None:
    try:
        return Origin(**json.loads(path.read_text(encoding="utf-8", errors="surrogatepass")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"{path} cannot be read: {error}; move it away") from error


async def forget_origin(places: Places, key: str) -> None:
    """Remove it."""
    await asyncio.to_thread(_file(places, key).unlink, missing_ok=True)
