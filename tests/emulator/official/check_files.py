"""Files, directories, watches and signed URLs."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import e2b
from calls import MODE, SECONDS, got, raises, until


async def files_are_written_and_read(sandbox: Any) -> None:
    binary = bytes(range(256)) * 100
    written = await got(sandbox.files.write("sub/text.txt", "grüße\n"))
    assert (written.name, written.path) == ("text.txt", "/home/user/sub/text.txt"), written
    assert await got(sandbox.files.read("/home/user/sub/text.txt")) == "grüße\n"
    await got(sandbox.files.write("~/data", binary))
    assert bytes(await got(sandbox.files.read("data", format="bytes"))) == binary
    stream = await got(sandbox.files.read("data", format="stream"))
    chunks = [chunk async for chunk in stream] if MODE == "async" else list(stream)
    assert b"".join(chunks) == binary
    await got(sandbox.files.write("zipped", binary, gzip=True))
    assert bytes(await got(sandbox.files.read("zipped", format="bytes", gzip=True))) == binary
    await got(sandbox.files.write("octets", binary, use_octet_stream=True))
    assert bytes(await got(sandbox.files.read("octets", format="bytes"))) == binary
    await got(sandbox.files.write("owned", "", user="root"))
    result = await got(sandbox.commands.run("stat -c '%U %a' /root/owned data", user="root", cwd="/home/user"))
    assert result.stdout == "root 644\nuser 644\n", result


async def many_files_are_written_at_once(sandbox: Any) -> None:
    entries = [{"path": f"many/{number}", "data": str(number)} for number in range(20)]
    written = await got(sandbox.files.write_files(entries))
    assert len(written) == 20, written
    assert await got(sandbox.files.read("many/19")) == "19"


async def files_are_listed_described_moved_and_removed(sandbox: Any) -> None:
    await got(sandbox.commands.run("mkdir -p tree/a/b; echo 12345 > tree/f; ln -s f tree/link; chmod 600 tree/f"))
    names = [entry.name for entry in await got(sandbox.files.list("tree"))]
    assert names == ["a", "f", "link"], names
    names = [entry.path for entry in await got(sandbox.files.list("tree", depth=2))]
    assert "/home/user/tree/a/b" in names, names
    info = await got(sandbox.files.get_info("tree/f"))
    assert (info.size, info.mode, info.permissions, info.owner) == (6, 0o600, "-rw-------", "user"), info
    assert info.type == e2b.FileType.FILE, info
    assert abs(info.modified_time.timestamp() - time.time()) < 60, info
    link = await got(sandbox.files.get_info("tree/link"))
    assert link.symlink_target == "/home/user/tree/f", link
    assert await got(sandbox.files.exists("tree/f")) is True
    assert await got(sandbox.files.exists("tree/none")) is False
    moved = await got(sandbox.files.rename("tree/f", "elsewhere/g"))
    assert moved.path == "/home/user/elsewhere/g", moved
    assert await got(sandbox.files.make_dir("tree/new/deep")) is True
    assert await got(sandbox.files.make_dir("tree/new/deep")) is False
    await got(sandbox.files.remove("tree"))
    await got(sandbox.files.remove("tree"))
    assert await got(sandbox.files.exists("tree")) is False


async def files_that_are_not_there_are_errors(sandbox: Any) -> None:
    await raises(e2b.NotFoundException, lambda: sandbox.files.read("none"))
    await raises(e2b.NotFoundException, lambda: sandbox.files.list("none"))
    await raises(e2b.NotFoundException, lambda: sandbox.files.get_info("none"))
    await raises(e2b.NotFoundException, lambda: sandbox.files.rename("none", "other"))
    await raises(e2b.InvalidArgumentException, lambda: sandbox.files.read("/tmp"))
    await got(sandbox.files.write("plain", "x"))
    await raises(e2b.InvalidArgumentException, lambda: sandbox.files.list("plain"))
    await raises(e2b.InvalidArgumentException, lambda: sandbox.files.make_dir("plain"))


async def metadata_stays_with_a_file(sandbox: Any) -> None:
    await got(sandbox.files.write("labelled", "x", metadata={"Origin": "here"}))
    info = await got(sandbox.files.get_info("labelled"))
    assert info.metadata == {"origin": "here"}, info
    await got(sandbox.files.write("labelled", "y"))
    info = await got(sandbox.files.get_info("labelled"))
    assert not info.metadata, info


async def signed_urls_need_no_token(sandbox: Any) -> None:
    await got(sandbox.files.write("signed", "content"))
    url = sandbox.download_url("signed", use_signature_expiration=100)
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        assert answer.read() == b"content"
    expired = sandbox.download_url("signed", use_signature_expiration=-100)
    error = await raises(urllib.error.HTTPError, lambda: urllib.request.urlopen(expired, timeout=SECONDS))
    assert error.code == 401, error
    error.close()


async def a_directory_is_watched(sandbox: Any) -> None:
    await got(sandbox.files.make_dir("watched"))
    events: list[Any] = []
    if MODE == "async":
        handle = await got(sandbox.files.watch_dir("watched", on_event=events.append, recursive=True, timeout=0))
    else:
        handle = sandbox.files.watch_dir("watched", recursive=True)
    await got(sandbox.files.write("watched/new", "x"))
    await got(sandbox.files.rename("watched/new", "watched/renamed"))
    await got(sandbox.files.remove("watched/renamed"))
    wanted = [("new", "create"), ("new", "write"), ("new", "rename"), ("renamed", "create"), ("renamed", "remove")]

    def all_there() -> bool:
        if MODE == "sync":
            events.extend(handle.get_new_events())
        found = [(event.name, event.type.value) for event in events]
        return [pair for pair in wanted if pair in found] == wanted

    await until(all_there)
    await got(handle.stop())
    await raises(e2b.NotFoundException, lambda: got_watch(sandbox, "missing"))


def got_watch(sandbox: Any, path: str) -> Any:
    options = {"on_event": lambda event: None} if MODE == "async" else {}
    return sandbox.files.watch_dir(path, **options)
