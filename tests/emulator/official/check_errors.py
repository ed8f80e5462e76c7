"""Errors, faults and versions."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any

import e2b
from calls import NEW, SECONDS, Sandbox, got, knob, raises


async def unknown_things_are_not_found(sandbox: Any) -> None:
    await raises(e2b.NotFoundException, lambda: Sandbox.connect("idoesnotexist"))
    assert await got(Sandbox.kill("idoesnotexist")) is False
    await raises(e2b.NotFoundException, lambda: Sandbox.get_info("idoesnotexist"))
    await raises(e2b.SandboxException, lambda: Sandbox.create(template="no-such-template"))
    await raises(e2b.NotFoundException, lambda: sandbox.commands.send_stdin(999999, "x"))
    await raises(e2b.AuthenticationException, lambda: Sandbox.create(api_key="e2b_0000"))
    await raises(
        e2b.NotFoundException, lambda: Sandbox.get_info(sandbox.sandbox_id, api_key=os.environ["E2B_OTHER_KEY"])
    )


async def a_wrong_token_is_refused(sandbox: Any) -> None:
    url = f"{os.environ['E2B_SANDBOX_URL']}/process.Process/List"
    headers = {"Content-Type": "application/json", "E2b-Sandbox-Id": sandbox.sandbox_id, "X-Access-Token": "wrong"}
    request = urllib.request.Request(url, data=b"{}", headers=headers, method="POST")
    error = await raises(urllib.error.HTTPError, lambda: urllib.request.urlopen(request, timeout=SECONDS))
    assert error.code == 401, error
    error.close()


async def faults_are_what_the_sdk_expects_of_the_real_service(sandbox: Any) -> None:
    page = {"headers": {"Content-Type": "text/html"}, "body": "<html>bad gateway</html>"}
    match = {"path": "/process.Process/Start", "surface": "sandbox"}
    unreachable = e2b.SandboxUnreachableException if NEW else e2b.TimeoutException
    for status, kind in ((502, unreachable), (504, e2b.TimeoutException), (401, e2b.AuthenticationException)):
        knob("POST", "faults", kind="status", status=status, **match, **page)
        await raises(kind, lambda: sandbox.commands.run("true"))
    knob("POST", "faults", kind="status", status=507, path="/files", body='{"code": 507, "message": "full"}')
    await raises(e2b.NotEnoughSpaceException, lambda: sandbox.files.write("x", "y"))
    knob("POST", "faults", kind="eos-error", code="resource_exhausted", **match)
    await raises(e2b.RateLimitException, lambda: sandbox.commands.run("true"))
    knob("POST", "faults", kind="no-end", **match)
    await raises(Exception, lambda: sandbox.commands.run("true"))
    if NEW:
        knob("POST", "faults", kind="status", status=503, path="/sandboxes$", method="POST", count=2, **page)
        one = await got(Sandbox.create(timeout=100))
        await got(one.kill())
    knob(
        "POST",
        "faults",
        kind="status",
        status=429,
        path="/sandboxes$",
        method="POST",
        count=4,
        body='{"code":429,"message":"no"}',
    )
    await raises(e2b.RateLimitException, lambda: Sandbox.create(timeout=100))
    knob("DELETE", "faults")


async def frames_may_come_in_any_pieces(sandbox: Any) -> None:
    for fault in ({"kind": "split"}, {"kind": "coalesce", "seconds": 0.02}, {"kind": "unknown"}):
        knob("POST", "faults", path="/process.Process/Start", **fault)
        result = await got(sandbox.commands.run("echo one; echo two >&2; seq 100"))
        assert result.stdout == "one\n" + "".join(f"{number}\n" for number in range(1, 101)), result
        assert result.stderr == "two\n", result
    knob("DELETE", "faults")


async def an_old_daemon_is_served_in_its_own_way(sandbox: Any) -> None:
    one = await got(Sandbox.create(template="envd:0.3.1", timeout=100))
    assert (await got(one.commands.run("id -un"))).stdout == "user\n"
    await got(one.files.write("old", "x"))
    assert await got(one.files.read("old")) == "x"
    await raises(e2b.SandboxException, one.create_snapshot)
    await got(one.kill())
