"""Which file systems may hold a write-ahead log.

Time budget: 2 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.state.filesystems import filesystem_type, supports_wal

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/home rw,relatime - nfs4 server:/home rw
31 22 0:41 / /mnt/with\\040space rw - cifs //server/share rw
32 22 0:42 / /mnt/far rw - fuse.sshfs user@host: rw
33 30 8:2 / /mnt/home/local rw - xfs /dev/sdb1 rw
34 22 0:43 / /mnt/twice rw - nfs server:/x rw
35 22 8:3 / /mnt/twice rw shared:7 master:2 - btrfs /dev/sdc1 rw
not a mount
"""


@pytest.mark.parametrize(
    ("path", "kind", "wal"),
    [
        ("/var/lib/x", "ext4", True),
        ("/mnt/home/ada/x", "nfs4", False),
        ("/mnt/home", "nfs4", False),
        ("/mnt/homes/x", "ext4", True),
        ("/mnt/home/local/x", "xfs", True),
        ("/mnt/with space/x", "cifs", False),
        ("/mnt/far/x", "fuse.sshfs", False),
        ("/mnt/twice/x", "btrfs", True),
    ],
)
def test_the_innermost_and_latest_mount_decides(path, kind, wal):
    assert filesystem_type(Path(path), mounts=MOUNTS) == kind
    assert supports_wal(Path(path), mounts=MOUNTS) is wal


def test_an_unknown_file_system_gets_no_wal():
    assert filesystem_type(Path("/x"), mounts="") is None
    assert not supports_wal(Path("/x"), mounts="")


@pytest.mark.requires("linux")
def test_this_system_tells_the_type(tmp_path):
    assert filesystem_type(tmp_path)
