"""Which file system a path is on: SQLite's write-ahead log needs shared memory, which network file systems lack."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["filesystem_type", "supports_wal"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncp", "ncpfs"}
    | {"nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def supports_wal(path: Path, *, mounts: str | None = None) -> bool:
    """Tell whether a database at this path may use a write-ahead log; unknown means no.

    `mounts` is text as in ``/proc/self/mountinfo``, read from there when None.
    """
    kind = filesystem_type(path, mounts=mounts)
    if kind is None:
        return False
    # FUSE names are "fuse.sshfs", "fuse.s3fs", …: most are remote and none promises a shared memory map.
    return kind not in _NETWORK and not kind.startswith("fuse")


def filesystem_type(path: Path, *, mounts: str | None = None) -> str | None:
    """Return the type of the file system that holds a path, such as ``ext4``; None where the system does not tell."""
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    target = os.path.realpath(path)
    best, kind = "", None
    for line in mounts.splitlines():
        # proc(5): "36 35 98:0 /root /mount/point options optional… - type source super-options"
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if not separator or len(fields) < 5 or not after:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), fields[4])
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # A later mount on the same point covers the earlier one.
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind
