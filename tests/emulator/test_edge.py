"""The proxy: which sandbox a request means, other ports, private ones, what is refused.

Time budget: 5 s.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.e2b.raw import Raw

pytestmark = pytest.mark.requires("e2b-emulator")


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['X-Given']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    """Give a port of this machine, which is a port of every sandbox's here, with a server on it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_sandbox_is_meant_by_host_or_by_headers(raw: Raw) -> None:
    box = raw.create()
    url = f"{raw.emulator.sandbox_url}/health"
    assert raw.http.get(url, headers={"Host": f"49983-{box.id}.e2b.app"}).status_code == 204
    assert raw.http.get(url, headers={"Host": f"49983-{box.id}-extra.e2b.app:443"}).status_code == 204
    assert raw.http.get(url, headers={"E2b-Sandbox-Id": box.id}).status_code == 204
    assert raw.http.get(url).status_code == 400
    gone = raw.http.get(url, headers={"E2b-Sandbox-Id": "inever"})
    assert (gone.status_code, gone.json()) == (
        502,
        {"sandboxId": "inever", "message": "The sandbox was not found", "code": 502},
    )


def test_other_ports_are_reached_and_closed_ones_told(raw: Raw, port: int) -> None:
    box = raw.create()
    headers = {"E2b-Sandbox-Port": str(port), "X-Given": "yes"}
    answer = box.request("GET", "/a%2Fb?c=%20d", headers=headers)
    assert answer.text == "/a%2Fb?c=%20d yes"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        number = unused.getsockname()[1]
        closed = box.request("GET", "/", headers={"E2b-Sandbox-Port": str(number)})
    assert (closed.status_code, closed.json()["port"]) == (502, number)
    assert "port is not open" in closed.json()["message"]


def test_private_ports_want_their_token(raw: Raw, port: int) -> None:
    box = raw.create(network={"allowPublicTraffic": False})
    headers = {"E2b-Sandbox-Port": str(port)}
    assert box.request("GET", "/", headers=headers).status_code == 403
    wrong = {**headers, "e2b-traffic-access-token": "wrong"}
    assert "invalid" in box.request("GET", "/", headers=wrong).json()["message"]
    right = {**headers, "e2b-traffic-access-token": box.made["trafficAccessToken"]}
    assert box.request("GET", "/", headers=right).status_code == 200
    assert box.request("GET", "/health").status_code == 204


def test_internal_endpoints_are_reserved(raw: Raw) -> None:
    box = raw.create()
    assert box.request("POST", "/init", content=b"{}").json() == {
        "path": "/init",
        "message": "reserved endpoint",
        "code": 404,
    }


def test_what_envd_answers_besides_services(raw: Raw) -> None:
    box = raw.create(envVars={"A": "1"})
    assert box.request("GET", "/envs").json()["A"] == "1"
    assert box.request("GET", "/metrics").json()["mem_total"] > 0
    assert box.request("GET", "/metrics", headers={"X-Access-Token": "wrong"}).status_code == 401


def test_requests_are_recorded(raw: Raw) -> None:
    box = raw.create()
    raw.emulator.requests.clear()
    box.write("/tmp/x y", b"data")
    [record] = raw.emulator.requests
    assert (record.surface, record.method, record.path, record.query) == (
        "sandbox",
        "POST",
        "/files",
        {"path": "/tmp/x y"},
    )
    assert (record.headers["e2b-sandbox-id"], record.status) == (box.id, 200)
    assert b"data" in record.body
    assert record.body_bytes == len(record.body)
