"""A root directory and a process tree of its own for each sandbox, by the kernel's namespaces.

Root needs no more; anybody else, or a root without the right to mount, gets a user namespace around it, in which
`root` and `user` are one.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

_NEWNS, _NEWUSER, _NEWPID = 0x20000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_CAP_SYS_ADMIN = 1 << 21

SHARED = ("usr", "etc", "lib", "lib32", "lib64", "libx32", "bin", "sbin", "opt", "var", "nix", "sys", "dev")
"""What a sandbox has of its host, where the host has it as a directory; all but devices read-only, for root."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    found = _libc.mount(source.encode(), target.encode(), None if kind is None else kind.encode(), flags, None)
    _check(found, f"mount {target}")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def privileged() -> bool:
    """Say whether this process may mount, and so needs no user namespace."""
    rows = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return os.getuid() == 0 and bool(int(rows["CapEff"], 16) & _CAP_SYS_ADMIN)


def leave() -> bool:
    """Enter a new mount namespace, and a process namespace for the next child; says whether this took a user's.

    Raises:
        OSError: this machine allows neither way.
    """
    if privileged():
        _check(_libc.unshare(_NEWNS | _NEWPID), "unshare")
        return False
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEWUSER | _NEWNS | _NEWPID), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    return True


def move_in(tree: str, accounts: str, *, restricted: bool) -> None:
    """Make a directory this process's root, with the host's programs in it; to be called by the first process."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount(tree, tree, None, _MS_BIND | _MS_REC)
    for name in SHARED:
        source, target = f"/{name}", f"{tree}/{name}"
        if not os.path.isdir(target) or os.path.islink(target):  # noqa: PTH112, PTH114
            continue
        _mount(source, target, None, _MS_BIND | _MS_REC)
        if name != "dev" and not restricted:  # a user's namespace may not change what it was given
            _mount("none", target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    for name in ("passwd", "group"):
        _mount(f"{accounts}/{'one-' if restricted else ''}{name}", f"{tree}/etc/{name}", None, _MS_BIND)
    _mount("proc", f"{tree}/proc", "proc", 0)
    if os.path.isdir(f"{tree}/var/tmp"):  # noqa: PTH112
        _mount(f"{tree}/tmp", f"{tree}/var/tmp", None, _MS_BIND)
    os.chdir(tree)
    old = f"{tree}/.host"
    Path(old).mkdir(exist_ok=True)
    _check(_libc.pivot_root(tree.encode(), old.encode()), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/.host", _MNT_DETACH), "umount")
    Path("/.host").rmdir()
