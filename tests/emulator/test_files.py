"""File contents by plain HTTP: both forms of upload, ranges, encodings, signatures.

Time budget: 3 s.
"""

from __future__ import annotations

import gzip
import time

import pytest

from support.e2b import signatures
from support.e2b.raw import Box, Raw

pytestmark = pytest.mark.requires("e2b-emulator")
OCTETS = {"Content-Type": "application/octet-stream"}


def test_one_part_goes_where_the_query_says_and_many_where_their_names_do(raw: Raw) -> None:
    box = raw.create()
    answer = box.write("~/a/b.txt", b"one")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.json() == [{"name": "b.txt", "path": "/home/user/a/b.txt", "type": "file"}]
    many = [("file", ("/tmp/x", b"1")), ("other", ("/tmp/ignored", b"-")), ("file", ("rel/y", b"2"))]
    answer = box.request("POST", "/files", files=many)
    assert [row["path"] for row in answer.json()] == ["/tmp/x", "/home/user/rel/y"]
    assert box.read("/tmp/ignored").status_code == 404
    twice = [("file", ("/tmp/x", b"1")), ("file", ("/tmp/x", b"2"))]
    assert box.request("POST", "/files", files=twice).status_code == 400
    assert box.request("POST", "/files", params={"path": "/tmp/z"}, files=many[:1] * 2).status_code == 400


def test_octets_are_taken_whole_chunked_and_zipped(raw: Raw) -> None:
    box, data = raw.create(), bytes(range(256)) * 5000

    def put(name: str, content: object, **headers: str) -> bytes:
        params = {"path": f"/tmp/{name}"}
        answer = box.request("POST", "/files", params=params, headers={**OCTETS, **headers}, content=content)
        assert answer.status_code == 200, answer.text
        return box.read(f"/tmp/{name}").content

    assert put("whole", data) == data
    assert put("chunked", iter([data[:1000], data[1000:]])) == data
    assert put("zipped", gzip.compress(data), **{"Content-Encoding": "gzip"}) == data
    assert box.request("POST", "/files", headers=OCTETS, content=b"x").status_code == 400
    other = box.request(
        "POST", "/files", params={"path": "/tmp/o"}, headers={"Content-Type": "text/plain"}, content=b"x"
    )
    assert other.status_code == 400


def test_ownership_and_modes_are_what_envd_makes(raw: Raw) -> None:
    box = raw.create()
    box.run("mkdir /tmp/d; : > /tmp/d/kept; chmod 600 /tmp/d/kept")
    box.request("POST", "/files", params={"path": "/tmp/d/kept", "username": "root"}, files={"file": ("k", b"1")})
    box.request("POST", "/files", params={"path": "/tmp/new/deep", "username": "user"}, files={"file": ("k", b"1")})
    found = box.run("stat -c '%a %U' /tmp/d/kept /tmp/new /tmp/new/deep").output().decode().split("\n")
    assert found == ["600 root", "755 user", "644 user", ""]
    unknown = box.request("GET", "/files", params={"path": "/tmp/new/deep", "username": "nobody-here"})
    assert unknown.status_code == 401
    assert box.write("/tmp/new/deep/below", b"x").status_code == 500
    assert box.read("/tmp").status_code == 400


@pytest.mark.parametrize(
    ("span", "status", "body", "shown"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("lines=1", 200, b"0123456789", None),
    ],
)
def test_ranges(raw: Raw, span: str, status: int, body: bytes | None, shown: str | None) -> None:
    box = raw.create()
    box.write("/tmp/ten", b"0123456789")
    answer = box.read(
        "/tmp/ten", headers={"Range": span, "Accept-Encoding": "gzip"} if status == 206 else {"Range": span}
    )
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, shown)
    assert body is None or answer.content == body


def test_encodings_and_conditions(raw: Raw) -> None:
    box = raw.create()
    box.write("/tmp/t.txt", b"text" * 1000)
    zipped = box.read("/tmp/t.txt", headers={"Accept-Encoding": "gzip"})
    assert (zipped.headers["Content-Encoding"], zipped.content) == ("gzip", b"text" * 1000)
    plain = box.read("/tmp/t.txt")
    assert (plain.headers["Content-Length"], plain.headers["Accept-Ranges"]) == ("4000", "bytes")
    assert box.read("/tmp/t.txt", headers={"Accept-Encoding": "identity;q=0"}).status_code == 406
    same = box.read("/tmp/t.txt", headers={"If-Modified-Since": plain.headers["Last-Modified"]})
    assert same.status_code == 304
    assert box.request("HEAD", "/files", params={"path": "/tmp/t.txt"}).status_code == 405


def signed(box: Box, operation: str, expiry: int | None = None) -> dict[str, str]:
    signature = signatures.sign("t", operation, "user", box.made["envdAccessToken"], expiry)
    query = {"path": "t", "username": "user", "signature": signature}
    return query if expiry is None else {**query, "signature_expiration": str(expiry)}


def test_a_signature_opens_what_it_was_made_for(raw: Raw) -> None:
    box, other = raw.create(), raw.create()
    url = f"{raw.emulator.sandbox_url}/files"
    for one, data in ((box, b"mine"), (other, b"theirs")):
        answer = raw.http.post(url, params=signed(one, "write"), files={"file": ("t", data)})
        assert answer.status_code == 200, answer.text
    assert raw.http.get(url, params=signed(box, "read")).content == b"mine"
    assert raw.http.get(url, params=signed(other, "read", int(time.time()) + 100)).content == b"theirs"
    assert raw.http.get(url, params=signed(box, "write")).status_code == 401
    assert raw.http.get(url, params=signed(box, "read", int(time.time()) - 100)).status_code == 401
    token = box.headers.pop("X-Access-Token")
    assert box.request("GET", "/files", params={"path": "t"}).status_code == 401
    wrong = {"X-Access-Token": "wrong"}
    assert box.request("GET", "/files", params=signed(box, "read"), headers=wrong).status_code == 401
    assert token


def test_metadata_lives_with_the_contents_it_came_with(raw: Raw) -> None:
    box = raw.create()
    params = {"path": "/tmp/m"}
    answer = box.request("POST", "/files", params=params, headers={**OCTETS, "X-Metadata-Key": "v"}, content=b"1")
    assert answer.json()[0]["metadata"] == {"key": "v"}
    stat = box.unary("filesystem.Filesystem/Stat", params).json()
    assert stat["entry"]["metadata"] == {"key": "v"}
    box.write("/tmp/m", b"2")
    assert "metadata" not in box.unary("filesystem.Filesystem/Stat", params).json()["entry"]
