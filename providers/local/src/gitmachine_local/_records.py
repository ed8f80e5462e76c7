"""What a local machine leaves on the host: its directory, its record, its socket; and how they are removed."""

# ruff: noqa: PTH101, PTH104, PTH106, PTH108, PTH112, PTH116, PTH119, PTH208  # a fleet's records: pathlib costs more

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Literal

import attrs

from gitmachine.state.places import Places, make_private
from gitmachine_local import _processes
from gitmachine_local._errors import PROVIDER

MACHINE_ID = re.compile(r"[0-9a-f]{12}")
REMOVING = ".removing-"
RECORD = "machine.json"
END_SECONDS = 10.0


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
        label: what its session calls it, if anything; from before anything else of it is.
        ending: pid and start time of the process that began to remove it.
    """

    id: str
    directory: Path
    socket: Path
    isolation: Literal["bubblewrap", "none"]
    network: Literal["none", "host"]
    prefix: int
    owner: tuple[int, str]
    first: tuple[int, str] | None = None
    monitor: tuple[int, str] | None = None
    label: str | None = None
    ending: tuple[int, str] | None = None

    @classmethod
    def create(
        cls, *, isolation: Literal["bubblewrap", "none"], network: Literal["none", "host"], label: str | None = None
    ) -> Record:
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
            owner=_this_process(),
            label=label,
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
        data = {**attrs.asdict(self, recurse=False), "directory": str(self.directory), "socket": str(self.socket)}
        temporary = f"{self.directory}/.{secrets.token_hex(6)}"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(data))
        os.replace(temporary, self.directory / RECORD)  # noqa: PTH105  # it is a string

    @classmethod
    def load(cls, machine_id: str) -> Record | None:
        """Return the record of a machine, or None when there is no such machine."""
        if not MACHINE_ID.fullmatch(machine_id):
            return None
        path = state_directory() / machine_id / RECORD
        try:
            data = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        names = ("owner", "first", "monitor", "ending")
        pairs = {name: tuple(data[name]) if data.get(name) else None for name in names}
        return cls(**{**data, **pairs, "directory": path.parent, "socket": Path(data["socket"])})

    def destroy(self) -> None:
        """End the machine's processes and remove what it has on the host.

        That this was begun is on the disk first, so that `sweep` ends it should this process die.
        """
        with contextlib.suppress(OSError):  # gone already; or a full disk, which must not keep a machine from its end
            attrs.evolve(self, ending=_this_process()).save()
        self.end()
        self.remove()

    def end(self) -> None:
        """End the machine's processes, outermost last."""
        if not _processes.is_alive(self.first):
            self._end_unknown()
        _processes.end(self.first)
        with contextlib.suppress(TimeoutError):
            _processes.wait_end(self.monitor, timeout_seconds=5.0)
        _processes.end(self.monitor)
        _processes.reap(self.first, self.monitor)
        if self.isolation == "none":
            _processes.end_marked(self.prefix)

    def _end_unknown(self) -> None:
        """End a first process that was started (again) and never written down: it says what it has to say to our log.

        One that listens, or soon will, is asked to end where processes cannot be looked at. bubblewrap must be killed:
        its child waits for ever for a parent that died because nobody reads what it reports.
        """
        if _processes.end_logging(self.log):
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(END_SECONDS)
            sock.connect(str(self.socket))
            request = b"1\0shutdown"
            sock.sendall(len(request).to_bytes(4, "big") + request)
            while sock.recv(4096):
                pass

    def remove(self) -> None:
        """Remove everything that the machine has on the host; its processes must have ended."""
        self.socket.unlink(missing_ok=True)
        remove_tree(self.directory)


def _this_process() -> tuple[int, str]:
    return _processes.identify(os.getpid()) or (os.getpid(), "")


def remove_tree(path: Path) -> None:
    """Remove a directory that hostile programs filled: any depth, any modes, and no symlink is followed.

    Nested directories are moved up and become siblings, so neither recursion nor path lengths have a say.
    """
    top = f"{path.parent}/{REMOVING}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        os.chmod(path, 0o700)
        os.rename(path, top)
    except FileNotFoundError:
        return
    _clear(top)


def _clear(top: str) -> None:
    """Remove a directory; what is nested deeper is moved into it before it is looked at."""
    pending, count, own = [top], 0, secrets.token_hex(6)
    while pending:
        directory = pending[-1]
        with os.scandir(directory) as entries:
            listed = list(entries)
        for entry in listed:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            moved = entry.path
            if directory != top:
                count += 1
                moved = f"{top}/{own}-{count}"
                os.rename(entry.path, moved)
            pending.append(moved)
        if directory == pending[-1]:
            os.rmdir(pending.pop())


def all_records() -> tuple[Record, ...]:
    """Return the records of all machines of this user."""
    top = state_directory()
    names = sorted(path.name for path in top.iterdir()) if top.is_dir() else []
    return tuple(record for name in names if (record := Record.load(name)) is not None)


def sweep() -> None:
    """Remove machines that never came to be, or not quite went, because the process that was at it died."""
    _processes.reap_all()
    top = str(state_directory())
    names = os.listdir(top) if os.path.isdir(top) else []
    for name in names:
        if name.startswith(REMOVING) and _processes.identify(int(name.split("-")[1])) is None:
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                _clear(f"{top}/{name}")
    for path in _settled.keys() - {f"{top}/{name}" for name in names}:
        _settled.pop(path, None)
    for name in names:
        _sweep_one(f"{top}/{name}")


_settled: dict[str, tuple[int, int, int]] = {}
"""Directories of machines that need no sweeping, each with what tells whether its record is still the one that was read
by this process: each start looks at every machine, so what it costs must not grow with the square of their number."""


def _sweep_one(directory: str) -> None:
    try:
        info = os.stat(f"{directory}/{RECORD}")
    except OSError:
        return
    version = (os.getpid(), info.st_ino, info.st_mtime_ns)
    if _settled.get(directory) == version:
        return
    record = Record.load(os.path.basename(directory))
    if record is None:
        return
    # One that this process is starting cannot have been left behind.
    if record.ending is None and (record.first is not None or record.owner == _this_process()):
        _settled[directory] = version
        return
    begun = record.first is None and not _processes.is_alive(record.owner)
    ending = record.ending is not None and not _processes.is_alive(record.ending)
    if begun or ending:
        record.destroy()


def find(label: str) -> Record | None:
    """Return the machine with this label; what is left of one that died before anybody used it is removed."""
    sweep()
    for record in all_records():
        if record.label != label or _processes.is_alive(record.ending):
            continue
        if _processes.is_alive(record.first) or _processes.is_alive(record.owner):
            return record
        record.destroy()
    return None
