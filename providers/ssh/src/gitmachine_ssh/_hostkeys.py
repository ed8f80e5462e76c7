"""Whether a host is the one it is known as: known_hosts files, fingerprints, and the choice to accept a new host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from gitmachine import ConfigError
from gitmachine_ssh._errors import PROVIDER, HostKeyError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HostKeys"]

DEFAULT_PORT = 22
USUAL_FILES = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


class HostKeys:
    """The known keys of one host while one connection to it is made."""

    def __init__(self, files: Sequence[str], *, accept_new: bool) -> None:
        """Read the files that exist; none are the usual ones."""
        paths = [Path(name).expanduser() for name in files or USUAL_FILES]
        self.file = paths[0]
        self._accept_new = accept_new
        data = []
        for path in paths:
            try:
                data.append(path.read_text(errors="surrogateescape"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigError(f"cannot read {str(path)!r}: {error.strerror} @ known_hosts") from error
        try:
            self.known = asyncssh.import_known_hosts("\n".join(data))
        except ValueError as error:
            raise ConfigError(f"cannot understand {', '.join(map(str, paths))}: {error} @ known_hosts") from error
        self._seen: tuple[str, int, asyncssh.SSHKey, bool] | None = None

    def judge(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Say whether to trust a key that is not among the known ones of its host."""
        matched = asyncssh.match_known_hosts(self.known, host, addr, port if port != DEFAULT_PORT else None)
        is_new = not any(matched[:2])
        self._seen = (host, port, key, is_new)
        return is_new and self._accept_new

    def save(self) -> None:
        """Write down the key that `judge` accepted, if it did."""
        if self._seen is None or not self._seen[3]:
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "rb+") as file:
            whole = os.fstat(file.fileno()).st_size == 0 or file.seek(-1, os.SEEK_END) < 0 or file.read(1) == b"\n"
            file.write((b"" if whole else b"\n") + self._line().encode())

    def refusal(self, error: Exception) -> HostKeyError:
        """Return the error for a key that was not trusted: what it is, and what to do."""
        if self._seen is None:
            return HostKeyError(f"the key of the host is not trusted: {error}", provider=PROVIDER, operation="connect")
        host, port, key, is_new = self._seen
        name, print_ = _name(host, port), key.get_fingerprint("sha256")
        kind = key.get_algorithm()
        if is_new:
            message = (
                f"the key of {name} is not known: {kind} {print_}; compare it with the host's own, then connect once "
                f"with ssh, add the line {self._line().strip()!r} to {self.file}, or set accept_new = true"
            )
        else:
            message = (
                f"the key of {name} has changed to {kind} {print_}: somebody may be listening in, or the host was set "
                f"up anew; if you know why, remove the old key (ssh-keygen -R '{name}' -f '{self.file}')"
            )
        return HostKeyError(message, provider=PROVIDER, operation="connect")

    def _line(self) -> str:
        assert self._seen is not None
        host, port, key, _ = self._seen
        return f"{_name(host, port)} {key.export_public_key('openssh').decode().strip()}\n"


def _name(host: str, port: int) -> str:
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"
