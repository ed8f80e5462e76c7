"""Directory operations, entries and watches.

Time budget: 5 s.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.e2b.raw import Box, Raw, events

pytestmark = pytest.mark.requires("e2b-emulator")


def call(box: Box, method: str, **message: Any) -> tuple[int, Any]:
    answer = box.unary(f"filesystem.Filesystem/{method}", message)
    return answer.status_code, answer.json()


def code(box: Box, method: str, **message: Any) -> tuple[int, str]:
    status, body = call(box, method, **message)
    return status, body["code"]


def test_a_file_is_described(raw: Raw) -> None:
    box = raw.create()
    box.run("printf 12345 > f; chmod 644 f; mkdir d; chmod 1777 d; : > empty; ln -s f good; ln -s none bad")
    _, body = call(box, "Stat", path="f")
    entry = body["entry"]
    assert entry.pop("modifiedTime").endswith("Z")
    wanted = {"name": "f", "type": "FILE_TYPE_FILE", "path": "/home/user/f", "size": "5", "mode": 0o644}
    assert entry == {**wanted, "permissions": "-rw-r--r--", "owner": "user", "group": "user"}
    assert "size" not in call(box, "Stat", path="empty")[1]["entry"]
    directory = call(box, "Stat", path="d")[1]["entry"]
    assert (directory["type"], directory["permissions"]) == ("FILE_TYPE_DIRECTORY", "dtrwxrwxrwx")
    good = call(box, "Stat", path="good")[1]["entry"]
    assert (good["type"], good["symlinkTarget"], good["mode"]) == ("FILE_TYPE_FILE", "/home/user/f", 0o644)
    bad = call(box, "Stat", path="bad")[1]["entry"]
    assert (bad["symlinkTarget"], "type" in bad, "mode" in bad) == ("/home/user/bad", False, False)


def test_a_directory_is_listed_to_a_depth(raw: Raw) -> None:
    box = raw.create()
    box.run("mkdir -p t/a/b/c; : > t/z; ln -s a t/l; ln -s t way")

    def listed(**message: Any) -> list[str]:
        return [entry["path"].removeprefix("/home/user/") for entry in call(box, "ListDir", **message)[1]["entries"]]

    assert listed(path="t") == ["t/a", "t/l", "t/z"]
    assert listed(path="t", depth=2) == ["t/a", "t/a/b", "t/l", "t/z"]
    assert listed(path="way") == ["way/a", "way/l", "way/z"]
    assert code(box, "ListDir", path="none") == (404, "not_found")
    assert code(box, "ListDir", path="t/z") == (400, "invalid_argument")
    assert call(box, "ListDir", path="t/a/b/c") == (200, {})


def test_directories_are_made_moved_and_removed(raw: Raw) -> None:
    box = raw.create()
    assert call(box, "MakeDir", path="~/x/y")[1]["entry"]["path"] == "/home/user/x/y"
    assert code(box, "MakeDir", path="x/y") == (409, "already_exists")
    box.write("/home/user/x/y/f", b"1")
    assert code(box, "MakeDir", path="x/y/f") == (400, "invalid_argument")
    assert call(box, "Move", source="x/y", destination="far/away")[1]["entry"]["path"] == "/home/user/far/away"
    assert code(box, "Move", source="x/y", destination="z") == (404, "not_found")
    assert box.read("/home/user/far/away/f").content == b"1"
    assert call(box, "Remove", path="far") == (200, {})
    assert call(box, "Remove", path="far") == (200, {})
    assert code(box, "Stat", path="~other/x") == (400, "invalid_argument")


def test_watchers_collect_what_happens(raw: Raw) -> None:
    box = raw.create()
    box.run("mkdir w")
    _, made = call(box, "CreateWatcher", path="w", recursive=True, includeEntry=True)
    box.run("echo 1 > w/f; mkdir w/d; mv w/f w/g; chmod 600 w/g; rm w/g; echo 2 > w/d/deep")
    seen: list[tuple[str, str]] = []
    deadline = time.monotonic() + 60
    while ("d/deep", "CREATE") not in seen:
        assert time.monotonic() < deadline, seen
        for event in call(box, "GetWatcherEvents", watcherId=made["watcherId"])[1].get("events", []):
            seen.append((event["name"], event["type"].removeprefix("EVENT_TYPE_")))
    kinds = [("f", "CREATE"), ("f", "WRITE"), ("f", "RENAME"), ("g", "CREATE"), ("g", "CHMOD"), ("g", "REMOVE")]
    assert [pair for pair in seen if pair in kinds] == kinds
    assert call(box, "RemoveWatcher", watcherId=made["watcherId"]) == (200, {})
    assert code(box, "RemoveWatcher", watcherId=made["watcherId"]) == (404, "not_found")
    assert code(box, "CreateWatcher", path="w/d/deep") == (400, "invalid_argument")


def test_a_watch_is_a_stream(raw: Raw) -> None:
    box = raw.create()
    with box.stream("filesystem.Filesystem/WatchDir", {"path": "/tmp", "includeEntry": True}) as response:
        stream = events(response)
        assert next(stream) == (0, {"start": {}})
        box.write("/tmp/new", b"x")
        event = next(stream)[1]["filesystem"]
    assert (event["name"], event["type"], event["entry"]["path"]) == ("new", "EVENT_TYPE_CREATE", "/tmp/new")
