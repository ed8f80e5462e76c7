"""What clients sent, in order, for tests of the wire."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

KEPT_BYTES = 1 << 20


@attrs.define(kw_only=True, eq=False)
class Recorded:
    """One request; `body` holds its first MiB, `body_bytes` says how long it was."""

    surface: str
    """`api` for the control plane, `sandbox` for the data plane."""
    method: str
    path: str
    """As sent: percent-encoded, without the query."""
    query_string: str
    headers: dict[str, str]
    """By lower-case names."""
    body: bytes = b""
    body_bytes: int = 0
    status: int | None = None
    """What was answered; None when the connection was cut before an answer."""

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def add(self, data: bytes) -> None:
        """Record some more of the body."""
        self.body_bytes += len(data)
        if (room := KEPT_BYTES - len(self.body)) > 0:
            self.body += data[:room]

    def view(self) -> dict[str, Any]:
        shown = attrs.asdict(self)
        shown["body"] = base64.b64encode(self.body).decode()
        return shown


def begin(request: web.Request, surface: str) -> Recorded:
    """Start the record of a request whose body is still to come."""
    path, _, query = request.raw_path.partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Recorded(surface=surface, method=request.method, path=path, query_string=query, headers=headers)
