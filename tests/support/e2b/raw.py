"""The emulator's interface by plain requests, as close to the wire as a test wants to be."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import attrs
import httpx

from support.e2b.server import Emulator

SECONDS = 60.0
CONNECT = "application/connect+json"


def envelope(message: Any, flags: int = 0) -> bytes:
    """Make a frame."""
    payload = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


def frames(data: bytes) -> list[tuple[int, Any]]:
    """Take frames apart."""
    found = []
    while data:
        flags, length = struct.unpack_from(">BI", data)
        assert len(data) >= 5 + length, "a frame is cut"
        found.append((flags, json.loads(data[5 : 5 + length])))
        data = data[5 + length :]
    return found


@attrs.frozen(kw_only=True)
class Outcome:
    """What a stream of a process told."""

    events: list[dict[str, Any]]
    eos: dict[str, Any] | None

    @property
    def pid(self) -> int:
        return int(self.events[0]["start"]["pid"])

    def output(self, kind: str = "stdout") -> bytes:
        data = [event["data"] for event in self.events if "data" in event]
        return b"".join(base64.b64decode(one[kind]) for one in data if kind in one)

    @property
    def end(self) -> dict[str, Any]:
        return dict(next(event["end"] for event in self.events if "end" in event))

    @property
    def error(self) -> dict[str, Any]:
        assert self.eos is not None
        return dict(self.eos["error"])


def outcome(data: bytes) -> Outcome:
    """Read a whole stream of process events."""
    found = frames(data)
    eos = [message for flags, message in found if flags & 2]
    return Outcome(events=[message["event"] for flags, message in found if not flags & 2], eos=eos[0] if eos else None)


class Raw:
    """A client without a mind of its own; kills the sandboxes that it made."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.http = httpx.Client(
            timeout=SECONDS, trust_env=False, verify=False, limits=httpx.Limits(max_connections=None)
        )
        self._made: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.emulator.faults.clear()
        for sandbox_id in self._made:
            self.api("DELETE", f"/sandboxes/{sandbox_id}")
        self.http.close()

    def api(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"X-API-Key": self.emulator.api_key, **options.pop("headers", {})}
        content = None if body is None else json.dumps(body)
        return self.http.request(method, self.emulator.api_url + path, headers=headers, content=content, **options)

    def create(self, **body: Any) -> Box:
        answer = self.api("POST", "/sandboxes", {"templateID": "base", "timeout": 300, "secure": True, **body})
        assert answer.status_code == 201, answer.text
        return self.box(answer.json())

    def box(self, made: dict[str, Any]) -> Box:
        self._made.append(made["sandboxID"])
        return Box(self, made)


class Box:
    """One sandbox's data plane."""

    def __init__(self, raw: Raw, made: dict[str, Any]) -> None:
        self.raw = raw
        self.made = made
        self.id: str = made["sandboxID"]
        self.headers = {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": "49983"}
        if "envdAccessToken" in made:
            self.headers["X-Access-Token"] = made["envdAccessToken"]

    def api(self, method: str, path: str = "", body: Any = None, **options: Any) -> httpx.Response:
        return self.raw.api(method, f"/sandboxes/{self.id}{path}", body, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.raw.http.request(method, self.raw.emulator.sandbox_url + path, headers=headers, **options)

    def unary(self, method: str, body: Any, **headers: str) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        return self.request("POST", f"/{method}", content=json.dumps(body), headers=headers)

    def stream(self, method: str, body: Any, **headers: str) -> Any:
        """Open a stream; a context manager that gives the response with its body unread."""
        url = f"{self.raw.emulator.sandbox_url}/{method}"
        headers = {**self.headers, "Content-Type": CONNECT, **headers}
        return self.raw.http.stream("POST", url, content=envelope(body), headers=headers)

    def start(self, script: str, *, stdin: bool = False, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        process = {"cmd": "/bin/sh", "args": ["-c", script], **fields.pop("process", {})}
        return self.stream("process.Process/Start", {"process": process, "stdin": stdin, **fields}, **(headers or {}))

    def run(self, script: str, **options: Any) -> Outcome:
        """Run a script to the end of its stream."""
        with self.start(script, **options) as response:
            assert response.status_code == 200, response.read()
            return outcome(response.read())

    def write(self, path: str, data: bytes) -> httpx.Response:
        return self.request("POST", "/files", params={"path": path}, files={"file": ("x", data)})

    def read(self, path: str, **options: Any) -> httpx.Response:
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        return self.request("GET", "/files", params={"path": path, **options.pop("params", {})}, headers=headers)


def events(response: httpx.Response) -> Iterator[tuple[int, Any]]:
    """Read the frames of an open stream one by one."""
    buffer = bytearray()
    for chunk in response.iter_raw():
        buffer += chunk
        while len(buffer) >= 5:
            flags, length = struct.unpack_from(">BI", buffer)
            if len(buffer) < 5 + length:
                break
            yield flags, json.loads(buffer[5 : 5 + length])
            del buffer[: 5 + length]
