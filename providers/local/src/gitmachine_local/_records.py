"""What a local machine leaves on the host: its directory, its record, its socket; and how they are removed."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from pathlib import Path

import attrs

from gitmachine.state.places import Places, make_private
from gitmachine_local import _processes
from gitmachine_local._errors import PROVIDER

MACHINE_ID = re.compile(r"[0-9a-f]{12}")


def state_directory() -> Path:
    """Return the directory of all local machines."""
    return Places.default().state / PROVIDER


@attrs.frozen(kw_only=True)
class Record:
    """A machine as any process of its user can find it.

    Attributes:
        id: the machine's id.
        directory: what it has on the host; its home is in it.
        socket: where its supervisor listens.
        isolation: bubblewrap or none.
        network: none or host.
        prefix: the upper bits of the mark that its processes carry.
        owner: pid and start time of the process that started it.
        first: pid and start time of its first process, once known.
        monitor: pid and start time of bubblewrap's process outside of the sandbox, if any.
    """

    id: str
    directory: Path
    socket: Path
    isolation: str
    network: str
    prefix: int
    owner: tuple[int, str]
    first: tuple[int, str] | None = None
    monitor: tuple[int, str] | None = None

    @classmethod
    def create(cls, *, isolation: str, network: str) -> Record:
        """Make a machine's directory, with its record and an empty home in it: before anything else of it is."""
        places = Places.default().ensure()
        identity = secrets.token_hex(6)
        record = cls(
            id=identity,
            directory=make_private(make_private(places.state / PROVIDER) / identity),
            socket=places.runtime / f"{PROVIDER}-{identity}.sock",
            isolation=isolation,
            network=network,
            prefix=secrets.randbits(35) | 1 << 35,
            owner=_processes.identify(os.getpid()) or (os.getpid(), ""),
        )
        record.save()
        record.home.mkdir(mode=0o700)
        return record

    @property
    def home(self) -> Path:
        """The directory that is the machine's home; what is in it is hostile."""
        return self.directory / "home"

    @property
    def log(self) -> Path:
        """What bubblewrap and the supervisor said on standard error."""
        return self.directory / "log"

    def save(self) -> None:
        """Write the record, atomically."""
        with tempfile.NamedTemporaryFile("w", dir=self.directory, delete=False) as file:  # 0600
            json.dump({**attrs.asdict(self), "directory": str(self.directory), "socket": str(self.socket)}, file)
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
        return cls(**{**data, **pairs, "directory": path.parent, "socket": Path(data["socket"])})

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
    top = state_directory()
    for path in top.iterdir() if top.is_dir() else ():
        record = Record.load(path.name)
        if record is not None and record.first is None and not _processes.is_alive(record.owner):
            record.remove()
