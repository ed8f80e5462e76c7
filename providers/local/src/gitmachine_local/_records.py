"""What a local machine leaves on the host: its directory, its record, its socket; and how they are removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import platformdirs

from gitmachine import MachineError
from gitmachine_local._errors import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE_ID = re.compile(r"[0-9a-f]{12}")
MAX_SOCKET_PATH = 90
"""Linux takes 107 bytes, macOS 103."""


def state_directory() -> Path:
    """Return the directory of all local machines."""
    home = os.environ.get("GITMACHINE_HOME")
    return (Path(home) / "state" if home else platformdirs.user_state_path("gitmachine")) / "local"


def runtime_directory() -> Path:
    """Return the directory of the sockets."""
    home = os.environ.get("GITMACHINE_HOME")
    return (Path(home) / "runtime" if home else platformdirs.user_runtime_path("gitmachine")) / "local"


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can enter.

    Raises:
        MachineError: it belongs to somebody else, or is a symlink.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise MachineError(
            f"{path} must be a directory of yours: move it away, or set GITMACHINE_HOME", provider=PROVIDER
        )
    if info.st_mode & 0o077:
        path.chmod(0o700)
    return path


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a path that fits into a socket address: the path itself, or one through a descriptor of its directory."""
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


@attrs.frozen(kw_only=True)
class Record:
    """A machine as any process of its user can find it.

    Attributes:
        id: the machine's id.
        isolation: bubblewrap or none.
        network: none or host.
        prefix: the upper bits of the mark that its processes carry.
        owner: pid and start time of the process that started it.
        first: pid and start time of its first process, once known.
        monitor: pid and start time of bubblewrap's process outside of the sandbox, if any.
    """

    id: str
    isolation: str
    network: str
    prefix: int
    owner: tuple[int, str]
    first: tuple[int, str] | None = None
    monitor: tuple[int, str] | None = None

    @property
    def directory(self) -> Path:
        """The machine's directory on the host."""
        return state_directory() / self.id

    @property
    def home(self) -> Path:
        """The directory that is the machine's home; what is in it is hostile."""
        return self.directory / "home"

    @property
    def log(self) -> Path:
        """What bubblewrap and the supervisor said on standard error."""
        return self.directory / "log"

    @property
    def socket(self) -> Path:
        """The supervisor's socket."""
        return runtime_directory() / f"{self.id}.sock"

    def save(self) -> None:
        """Write the record, atomically."""
        with tempfile.NamedTemporaryFile("w", dir=self.directory, delete=False) as file:  # 0600
            json.dump(attrs.asdict(self), file)
        Path(file.name).replace(self.directory / "machine.json")

    @classmethod
    def load(cls, machine_id: str) -> Record | None:
        """Return the record of a machine, or None when there is no such machine."""
        if not MACHINE_ID.fullmatch(machine_id):
            return None
        path = state_directory() / machine_id / "machine.json"
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        pairs = {name: tuple(data[name]) if data[name] else None for name in ("owner", "first", "monitor")}
        return cls(**{**data, **pairs})

    def remove(self) -> None:
        """Remove everything that the machine has on the host; its processes must have ended."""
        self.socket.unlink(missing_ok=True)
        remove_tree(self.directory)


def remove_tree(path: Path) -> None:
    """Remove a directory that hostile programs filled: any depth, any modes, and no symlink is followed.

    Nested directories are moved up and become siblings, so neither recursion nor path lengths have a say.
    """
    try:
        path.chmod(0o700)
    except FileNotFoundError:
        return
    top = Path(tempfile.mkdtemp(dir=path.parent, prefix=".removing-"))
    path.rename(top / "0")
    pending, count = [top / "0"], 0
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                count += 1
                Path(entry.path).chmod(0o700)
                Path(entry.path).rename(top / str(count))
                pending.append(top / str(count))
            else:
                Path(entry.path).unlink()
        directory.rmdir()
    top.rmdir()


def sweep() -> None:
    """Remove machines that never came to be, because the process that was starting them died."""
    from gitmachine_local import _processes

    top = state_directory()
    for path in top.iterdir() if top.is_dir() else ():
        record = Record.load(path.name)
        if record is not None and record.first is None and not _processes.is_alive(record.owner):
            record.remove()
