"""httpx: the bare `Start` stream of one command in a running sandbox, its envelopes read and dropped."""

import json

import httpx
from work import arguments, serve

given = arguments()
client = httpx.Client(base_url=given["sandbox_url"], timeout=None)
headers = {
    "Content-Type": "application/connect+json",
    "Connect-Protocol-Version": "1",
    "E2b-Sandbox-Id": given["sandbox"],
    "E2b-Sandbox-Port": "49983",
    "X-Access-Token": given["token"],
}
process = {"cmd": "/bin/bash", "args": ["-l", "-c", given["command"]], "envs": {}}
payload = json.dumps({"process": process}).encode()
envelope = bytes(1) + len(payload).to_bytes(4, "big") + payload


def work() -> None:
    with client.stream("POST", "/process.Process/Start", content=envelope, headers=headers) as response:
        body = b"".join(response.iter_raw())
    if response.status_code != 200 or b'"exited":true' not in body.replace(b" ", b""):
        raise SystemExit(f"{response.status_code}: {body!r}")


serve(work)
