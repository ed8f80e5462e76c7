"""The daemon's file service on the wire, in both forms of an upload. Time budget: 20 s."""

from __future__ import annotations

import asyncio

import pytest

from gitmachine_e2b._api import ControlPlane
from gitmachine_e2b._envd import Address, Envd
from gitmachine_e2b._errors import Broken, Refusal
from gitmachine_e2b._files import DIRECTORY, FILE, Files


async def make(emulator, template="base"):
    api = ControlPlane(emulator.api_url, emulator.api_key)
    sandbox = await api.create({"templateID": template, "timeout": 300, "secure": True, "metadata": {}, "envVars": {}})
    await api.close()
    return Envd(
        Address(
            url=emulator.sandbox_url, sandbox_id=sandbox.id, version=sandbox.envd_version, token=sandbox.envd_token
        ),
        seconds=30,
    )


async def remove(emulator, envd):
    emulator.faults.clear()
    await envd.close()
    api = ControlPlane(emulator.api_url, emulator.api_key)
    await api.kill(envd.address.sandbox_id)
    await api.close()


@pytest.fixture
async def files(emulator):
    envd = await make(emulator)
    yield Files(envd)
    await remove(emulator, envd)


async def read(files, path, **options):
    async with files.download(path, **options) as (pieces, length):
        return b"".join([piece async for piece in pieces]), length


async def test_an_upload_is_raw_where_the_daemon_takes_it(emulator, files):
    written = await files.upload("/home/user/a b/c.bin", b"\x00\xffdata")
    record = emulator.requests[-1]
    assert (record.method, record.path, record.query) == ("POST", "/files", {"path": "/home/user/a b/c.bin"})
    assert record.headers["content-type"] == "application/octet-stream"
    assert record.headers["content-length"] == "6"
    assert record.body == b"\x00\xffdata"
    assert (written[0].path, written[0].type) == ("/home/user/a b/c.bin", "file")
    assert await read(files, "/home/user/a b/c.bin") == (b"\x00\xffdata", 6)


async def test_an_upload_may_be_compressed_a_stream_or_marked(emulator, files):
    data = b"text " * 10_000
    await files.upload("/tmp/zip", data, gzip=True)
    assert emulator.requests[-1].headers["content-encoding"] == "gzip"
    assert emulator.requests[-1].body_bytes < len(data)
    assert (await read(files, "/tmp/zip"))[0] == data

    async def chunks():
        for _ in range(5):
            yield b"x" * 1000

    await files.upload("/tmp/stream", chunks(), user="root")
    assert emulator.requests[-1].headers["transfer-encoding"] == "chunked"
    assert emulator.requests[-1].query == {"path": "/tmp/stream", "username": "root"}
    assert (await read(files, "/tmp/stream"))[0] == b"x" * 5000
    written = await files.upload("/tmp/marked", b"x", metadata={"k": "v"})
    assert emulator.requests[-1].headers["x-metadata-k"] == "v"
    assert written[0].metadata == {"k": "v"}


@pytest.mark.parametrize("version", ["0.5.6", "0.3.9"])
async def test_an_older_daemon_gets_a_form(emulator, version):
    envd = await make(emulator, f"envd:{version}")
    try:
        files = Files(envd)

        async def chunks():
            yield b"one "
            yield b"two"

        await files.upload("/home/user/ü x", chunks())
        record = emulator.requests[-1]
        assert record.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert record.query["path"] == "/home/user/ü x"
        assert record.query.get("username") == ("user" if version == "0.3.9" else None)
        assert b'name="file"' in record.body
        assert await read(files, "/home/user/ü x") == (b"one two", 7)
    finally:
        await remove(emulator, envd)


async def test_downloads_are_plain_ranged_or_compressed(emulator, files):
    await files.upload("/tmp/ten", b"0123456789")
    assert await read(files, "/tmp/ten") == (b"0123456789", 10)
    assert emulator.requests[-1].headers["accept-encoding"] == "identity"
    assert await read(files, "/tmp/ten", first=2, last=4) == (b"234", 3)
    assert emulator.requests[-1].headers["range"] == "bytes=2-4"
    assert await read(files, "/tmp/ten", first=7) == (b"789", 3)
    assert emulator.requests[-1].headers["range"] == "bytes=7-"
    with pytest.raises(Refusal) as info:
        await read(files, "/tmp/ten", first=100)
    assert info.value.status == 416
    await files.upload("/tmp/large", b"a" * 100_000)
    data, length = await read(files, "/tmp/large", gzip=True)
    assert data == b"a" * 100_000
    assert length is None


async def test_a_download_that_is_cut_is_broken(emulator, files):
    await files.upload("/tmp/large", b"a" * 1_000_000)
    emulator.faults.add("cut", method="GET", path="/files", nbytes=10_000)
    with pytest.raises(Broken):
        await read(files, "/tmp/large")


async def test_refusals_of_the_file_service_are_told(files):
    for path, status in (("/nowhere", 404), ("/tmp", 400)):
        with pytest.raises(Refusal) as info:
            await read(files, path)
        assert info.value.status == status
    with pytest.raises(Refusal) as info:
        await files.upload("/etc/passwd/x", b"x")
    assert info.value.status >= 400


async def test_directories_are_made_listed_moved_and_removed(emulator, files):
    assert await files.make_dir("/home/user/d/e") is True
    assert emulator.requests[-1].path == "/filesystem.Filesystem/MakeDir"
    assert emulator.requests[-1].json == {"path": "/home/user/d/e"}
    assert await files.make_dir("/home/user/d/e") is False
    await files.upload("/home/user/d/f", b"four")
    entries = await files.entries("/home/user/d")
    assert emulator.requests[-1].json == {"path": "/home/user/d", "depth": 1}
    assert {entry.name: entry.type for entry in entries} == {"e": DIRECTORY, "f": FILE}
    entry = await files.stat("/home/user/d/f")
    assert emulator.requests[-1].path == "/filesystem.Filesystem/Stat"
    assert (entry.size, entry.owner, entry.type) == (4, "user", FILE)
    moved = await files.move("/home/user/d/f", "/home/user/g")
    assert emulator.requests[-1].json == {"source": "/home/user/d/f", "destination": "/home/user/g"}
    assert moved.path == "/home/user/g"
    await files.remove("/home/user/d")
    await files.remove("/home/user/d")
    with pytest.raises(Refusal) as info:
        await files.stat("/home/user/d")
    assert info.value.code == "not_found"


async def test_a_watch_tells_what_happens(emulator, files):
    await files.make_dir("/home/user/w")
    seen = []

    async def watch():
        async for event in files.watch("/home/user/w", recursive=True, include_entry=True):
            seen.append((event.type.removeprefix("EVENT_TYPE_"), event.name))
            if event.name == "last":
                return

    watching = asyncio.ensure_future(watch())
    try:
        async with asyncio.timeout(60):
            number = 0
            while not watching.done():
                number += 1
                await files.upload(f"/home/user/w/file-{number}", b"x")
                if seen:
                    await files.upload("/home/user/w/last", b"x")
                await asyncio.sleep(0.05)
        await watching
    finally:
        watching.cancel()
    record = next(record for record in emulator.requests if record.path.endswith("WatchDir"))
    assert record.body[5:] == b'{"path":"/home/user/w","recursive":true,"includeEntry":true}'
    assert any(kind == "CREATE" for kind, _ in seen)


async def test_a_watch_of_a_file_is_refused(files):
    await files.upload("/tmp/file", b"x")
    with pytest.raises(Refusal):
        async for _ in files.watch("/tmp/file"):
            pass
