"""Where GitMachine keeps things on this host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MAX_RUNTIME_BYTES", "Places", "make_private"]

APP_NAME = "gitmachine"

MAX_RUNTIME_BYTES = 60
"""The longest runtime path: a unix socket's path may have 107 bytes, and some are needed for its name."""


@attrs.frozen(kw_only=True)
class Places:
    """The folders of GitMachine, all absolute. Making one touches no disk; `ensure` makes them.

    Attributes:
        state: what must survive: the journal, session repositories, rescue bundles, locks.
        cache: what can be fetched again: mirrors.
        runtime: sockets, for as long as the host is up; at most `MAX_RUNTIME_BYTES` long.
        config: the user's configuration; GitMachine only reads it.
    """

    state: Path
    cache: Path
    runtime: Path
    config: Path

    @classmethod
    def default(cls, environ: Mapping[str, str] | None = None) -> Places:
        """Return the folders under ``GITMACHINE_HOME``, or else the platform's usual ones for a user."""
        environ = os.environ if environ is None else environ
        home = environ.get("GITMACHINE_HOME")
        if home:
            root = Path(os.path.abspath(Path(home).expanduser()))  # noqa: PTH100  # resolve() would follow symlinks
            return cls(
                state=root / "state",
                cache=root / "cache",
                runtime=_short(root / "runtime", environ),
                config=root / "config",
            )
        import platformdirs

        return cls(
            state=platformdirs.user_state_path(APP_NAME),
            cache=platformdirs.user_cache_path(APP_NAME),
            runtime=_user_runtime(environ),
            config=platformdirs.user_config_path(APP_NAME),
        )

    def ensure(self) -> Places:
        """Make state, cache and runtime where they are missing, each readable by this user only; return self.

        Raises:
            StateError: one cannot be made, or the runtime folder is somebody else's.
        """
        make_private(self.state)
        make_private(self.cache)
        _make_runtime(self.runtime)
        return self

    @property
    def journal(self) -> Path:
        """The journal's database file."""
        return self.state / "journal.db"

    @property
    def mirrors(self) -> Path:
        """The folder of mirrors: bare repositories with what the remotes have."""
        return self.cache / "mirror"

    @property
    def sessions(self) -> Path:
        """The folder of session repositories: bare repositories with what the machines made."""
        return self.state / "sessions"

    @property
    def bundles(self) -> Path:
        """The folder of rescue bundles."""
        return self.state / "rescue"

    @property
    def machines(self) -> Path:
        """The folder with one folder for each machine."""
        return self.state / "machines"

    @property
    def locks(self) -> Path:
        """The folder of lock files."""
        return self.state / "locks"

    def machine_dir(self, key: str) -> Path:
        """Return the folder of one machine, by its journal key."""
        return self.machines / key

    def machine_lock(self, key: str) -> Path:
        """Return the lock file of one machine, by its journal key."""
        return self.locks / f"{key}.lock"


def make_private(path: Path) -> Path:
    """Make a folder and its missing parents, mode 0700; close an existing one of ours to others. Return it.

    Raises:
        StateError: it cannot be made, or something else is in its place.
    """
    with _explained(path):
        _make_missing(path)
        found = path.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    return path


def _make_runtime(path: Path) -> None:
    """Make the runtime folder. It may be in a folder that everybody writes to, so what is there is not trusted."""
    with _explained(path):
        _make_missing(path)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StateError(
                f"the runtime folder {str(path)!r} belongs to uid {found.st_uid} or is no folder; "
                f"expected one of uid {os.geteuid()}: remove it, or set GITMACHINE_HOME"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)


def _make_missing(path: Path) -> None:
    # mkdir(parents=True) gives the parents the umask's mode: ours are made one by one.
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"cannot make the folder {str(path)!r}: {error.strerror or error}; "
            "make it writable, or set GITMACHINE_HOME to a folder that is"
        ) from error


def _user_runtime(environ: Mapping[str, str]) -> Path:
    # platformdirs warns on stderr when XDG_RUNTIME_DIR is missing, which is normal under cron, sudo and in containers.
    given = environ.get("XDG_RUNTIME_DIR")
    if given:
        folder = Path(given)
        try:
            found = folder.lstat()
        except OSError:
            return _fallback(None, environ)
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if folder.is_absolute() and ours and not found.st_mode & 0o077:
            return _short(folder / APP_NAME, environ)
    return _fallback(None, environ)


def _short(path: Path, environ: Mapping[str, str]) -> Path:
    return path if len(os.fsencode(path)) <= MAX_RUNTIME_BYTES else _fallback(path, environ)


def _fallback(instead_of: Path | None, environ: Mapping[str, str]) -> Path:
    """Return a short folder of this user under the temporary folder, one for each path that it stands in for."""
    name = f"{APP_NAME}-{os.geteuid()}"
    if instead_of is not None:
        name += "-" + hashlib.sha256(os.fsencode(instead_of)).hexdigest()[:10]
    temporary = Path(environ.get("TMPDIR") or tempfile.gettempdir()) / name
    if temporary.is_absolute() and temporary.parent.is_dir() and len(os.fsencode(temporary)) <= MAX_RUNTIME_BYTES:
        return temporary
    return Path("/tmp") / name  # noqa: S108  # `ensure` checks that the folder is this user's
