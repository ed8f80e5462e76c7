"""What of the host's files a sandbox is shown, and how.

Time budget: 1 s.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitmachine_local import _host

pytestmark = pytest.mark.requires("linux")


def tree_of(path):
    return _host._small_tree(str(path), path.lstat())


def test_a_small_directory_is_copied_with_its_links(tmp_path):
    top = tmp_path / "ld.so.conf.d"
    (top / "more").mkdir(parents=True)
    (top / "a.conf").write_text("x")
    (top / "more" / "b.conf").write_text("y")
    (top / "link").symlink_to("../a.conf")
    for folder in (top, top / "more"):
        folder.chmod(0o755)
    for file in (top / "a.conf", top / "more" / "b.conf"):
        file.chmod(0o644)
    names, copies = tree_of(top)
    assert sorted(copies) == [f"{top}/a.conf", f"{top}/more/b.conf"]
    assert names[:4] == ["--perms", "0755", "--dir", str(top)]
    assert ["--symlink", "../a.conf", f"{top}/link"] == names[names.index("--symlink") :][:3]


@pytest.mark.parametrize("what", ["many", "private file", "private directory", "pipe", "large"])
def test_any_other_directory_is_mounted(tmp_path, what):
    top = tmp_path / "top"
    top.mkdir(mode=0o755)
    top.chmod(0o750 if what == "private directory" else 0o755)
    for number in range(_host.COPIED_ENTRIES + 1 if what == "many" else 1):
        (top / str(number)).write_text("x")
        (top / str(number)).chmod(0o640 if what == "private file" else 0o644)
    if what == "pipe":
        os.mkfifo(top / "pipe")
    if what == "large":
        (top / "0").write_bytes(b"x" * (_host.COPIED_BYTES + 1))
    assert tree_of(top) is None


def test_a_file_that_has_become_private_is_not_copied(tmp_path):
    public, private = tmp_path / "public", tmp_path / "private"
    for path, mode in ((public, 0o644), (private, 0o600)):
        path.write_text("x")
        path.chmod(mode)
    (tmp_path / "link").symlink_to(public)
    files = _host.open_copies((str(public), str(private), str(tmp_path / "link"), str(tmp_path / "gone")))
    try:
        assert list(files) == [str(public)]
    finally:
        for fd in files.values():
            os.close(fd)


def test_machines_that_start_together_look_once_and_later_ones_again(monkeypatch):
    monkeypatch.setattr(_host, "_seen", {})
    first = _host.shown(network=False)
    assert _host.shown(network=False) is first
    monkeypatch.setattr(_host, "FRESH_SECONDS", 0.0)
    assert _host.shown(network=False) is not first
    assert _host.shown(network=False) == first


def test_names_of_the_network_are_shown_only_with_the_network():
    without, with_network = _host.shown(network=False), _host.shown(network=True)
    assert not {"/etc/hosts", "/etc/resolv.conf"} & {*without.mounts, *without.copies, *without.names}
    if Path("/etc/resolv.conf").exists():
        assert "/etc/resolv.conf" in {*with_network.mounts, *with_network.names}
    for shown in (without, with_network):
        assert "/etc/shadow" not in {*shown.mounts, *shown.copies, *shown.names}
