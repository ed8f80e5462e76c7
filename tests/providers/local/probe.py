"""Tries to reach the host: run inside a sandbox, where every try must fail, and outside, where it must succeed.

Reads its targets as JSON from standard input, prints {name: reached} as JSON. Standard library only.
"""

# ruff: noqa: PTH108, PTH112, PTH123, PTH207, PTH208  # it tries what programs try, as they try it

import contextlib
import ctypes
import glob
import json
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT, MS_BIND = 32, 4096
CLONE_NEWUSER = 0x10000000


def readable(path):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return bool(file.read(1))
    return False


def connects(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(5)
        with contextlib.suppress(OSError):
            sock.connect(address)
            return True
    return False


def found_in_proc(name, token):
    for path in glob.glob(f"/proc/[0-9]*/{name}") + glob.glob(f"/proc/[0-9]*/task/[0-9]*/{name}"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if token.encode() in file.read():
                return True
    return False


def mounts(folder):
    attempts = [
        (b"none", folder.encode(), b"tmpfs", 0),
        (b"/usr", folder.encode(), None, MS_BIND),
        (None, b"/", None, MS_REMOUNT),
        (None, b"/usr", None, MS_REMOUNT | MS_BIND),
        (None, b"/proc", None, MS_REMOUNT | MS_BIND),
        (b"proc", folder.encode(), b"proc", 0),
    ]
    return any(libc.mount(*attempt, None) == 0 for attempt in attempts)


def nests():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def opens_for_writing(path):
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY))  # nothing is written
        return True
    return False


def creates(path):
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(path)
        return True
    return False


def main():
    t = json.load(sys.stdin)
    found = {f"file {path}": readable(path) for path in t["files"]}
    found |= {f"listing {path}": bool(os.path.isdir(path) and os.listdir(path)) for path in t["folders"]}
    found |= {f"sysctl {path}": opens_for_writing(path) for path in t["sysctls"]}
    found |= {f"create in {path}": creates(f"{path}/gitmachine-probe") for path in t["writable"]}
    found |= {f"exists {path}": os.path.lexists(path) for path in t["paths"]}
    found["unix socket"] = connects(socket.AF_UNIX, t["unix"])
    found["abstract socket"] = connects(socket.AF_UNIX, "\0" + t["abstract"])
    found["network"] = connects(socket.AF_INET, ("127.0.0.1", t["port"]))
    found["other processes"] = found_in_proc("cmdline", t["token"])
    found["environment"] = found_in_proc("environ", t["token"])
    found["mount"] = mounts(t["mountpoint"])
    found["user namespace"] = nests()
    json.dump(found, sys.stdout)


main()
