"""What of the host's own files a sandbox shows, as arguments of bubblewrap.

A mount is what costs in a start: bubblewrap reads the whole table of mounts for each. So whatever of /etc is small is
copied, and only the rest is mounted.
"""

# ruff: noqa: PTH110, PTH115, PTH208  # a hundred names are looked at: pathlib costs more than that

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version"),
    *("fonts", "gai.conf", "host.conf", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias"),
    *("locale.conf", "localtime", "login.defs", "lsb-release", "magic", "mime.types", "nsswitch.conf", "os-release"),
    *("pki/ca-trust/extracted", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "rpc"),
    *("services", "shells", "ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf", "terminfo", "timezone"),
)
ETC_NETWORK = ("hosts", "resolv.conf")

COPIED_BYTES = 1 << 17
COPIED_ENTRIES = 10
"""A directory with no more than these is copied: each is a fifteenth of a mount."""

# Bubblewrap run by root maps the sandbox's user to root: without capabilities, but the kernel lets that uid write
# /proc/sys and read the files of mode 0400 in /proc. So /proc is read-only, and what tells of the host is covered.
PROC_COVERED = (
    *("acpi", "asound", "iomem", "kallsyms", "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags"),
    *("latency_stats", "pagetypeinfo", "sched_debug", "scsi", "slabinfo", "sysrq-trigger", "timer_list", "timer_stats"),
    "vmallocinfo",
)

FRESH_SECONDS = 1.0
"""How long what was seen counts: machines that start together look once."""


@attrs.frozen(kw_only=True)
class Shown:
    """What is shown of the host.

    Attributes:
        proc: the arguments for /proc.
        mounts: those for whatever is mounted.
        names: those for directories and symbolic links of /etc, which cost next to nothing.
        copies: paths of files that are copied.
    """

    proc: tuple[str, ...]
    mounts: tuple[str, ...]
    names: tuple[str, ...]
    copies: tuple[str, ...]


_seen: dict[bool, tuple[float, Shown]] = {}


def shown(*, network: bool) -> Shown:
    """Return what a sandbox is to be shown, with or without what belongs to the host's network."""
    known = _seen.get(network)
    if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
        return known[1]
    now, found = time.monotonic(), _look(network)
    _seen[network] = now, found
    return found


def is_seen(path: str) -> bool:
    """Whether a path of the host is in a directory that every sandbox shows."""
    return path.startswith(("/usr/", "/opt/")) or path in ("/usr", "/opt")


def open_copies(paths: tuple[str, ...]) -> dict[str, int]:
    """Open the files that are copied; without one that went, or that not everybody may read any more."""
    files = {}
    for path in paths:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            if _may_be_copied(os.fstat(fd)):
                files[path] = fd
            else:
                os.close(fd)
    return files


def _look(network: bool) -> Shown:
    mounts, names, copies = [*_system(), "--perms", "0755", "--dir", "/etc"], [], []
    java = [name for name in os.listdir("/etc") if name.startswith("java-") and name.endswith("-openjdk")]
    for name in (*ETC, *java, *(ETC_NETWORK if network else ())):
        path = f"/etc/{name}"
        info = _status(path)
        if info is None:
            continue
        if stat.S_ISLNK(info.st_mode) and is_seen(real := os.path.realpath(path)):
            names += ["--symlink", real, path] if os.path.exists(real) else []
        elif name not in ETC_NETWORK and (small := _small_tree(path, info)) is not None:
            names += small[0]
            copies += small[1]
        elif os.path.exists(real := os.path.realpath(path)):
            mounts += ["--ro-bind", real, path]
    return Shown(proc=tuple(_proc()), mounts=tuple(mounts), names=tuple(names), copies=tuple(copies))


def _status(path: str) -> os.stat_result | None:
    """Return the status of what is there, not followed; None for nothing."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _may_be_copied(info: os.stat_result) -> bool:
    return stat.S_ISREG(info.st_mode) and bool(info.st_mode & stat.S_IROTH) and info.st_size <= COPIED_BYTES


def _small_tree(top: str, info: os.stat_result) -> tuple[list[str], list[str]] | None:
    """Return the arguments for names in a small directory that everybody may read, and its files; else None.

    A small file is one too.
    """
    names: list[str] = []
    copies: list[str] = []
    pending, count = [(top, info)], 0
    while pending:
        path, info = pending.pop()
        count += 1
        if stat.S_ISDIR(info.st_mode) and info.st_mode & 0o005 == 0o005:
            try:
                entries = [f"{path}/{name}" for name in sorted(os.listdir(path))]
            except OSError:
                return None
            names += ["--perms", "0755", "--dir", path]
            pending += [(entry, found) for entry in entries[:COPIED_ENTRIES] if (found := _status(entry)) is not None]
            count += len(entries[COPIED_ENTRIES:])
        elif stat.S_ISLNK(info.st_mode) and path != top:
            names += ["--symlink", os.readlink(path), path]
        elif _may_be_copied(info):
            copies.append(path)
        else:
            return None
        if count > COPIED_ENTRIES:
            return None
    return names, copies


def _system() -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr", "--ro-bind-try", "/opt", "/opt")
    for path in SYSTEM:
        info = _status(path)
        if info is not None and stat.S_ISLNK(info.st_mode):
            yield from ("--symlink", os.readlink(path), path)
        elif info is not None and stat.S_ISDIR(info.st_mode):
            yield from ("--ro-bind", path, path)


def _proc() -> Iterator[str]:
    yield from ("--proc", "/proc")
    for name in PROC_COVERED:
        path = f"/proc/{name}"
        info = _status(path)
        if info is not None and stat.S_ISDIR(info.st_mode):
            yield from ("--perms", "0555", "--tmpfs", path, "--remount-ro", path)
        elif info is not None:
            yield from ("--ro-bind", "/dev/null", path)
    yield from ("--remount-ro", "/proc")
