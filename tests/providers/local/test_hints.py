"""A command that fails for want of a network comes with advice, and no other command does.

Time budget: 10 s.
"""

from __future__ import annotations

import pytest

from gitmachine import ExecResult
from gitmachine_local import LocalConfig, LocalMachine
from gitmachine_local._hints import network_hint

MESSAGES = [
    "curl: (6) Could not resolve host: example.org",
    "fatal: unable to access 'https://example.org/': Could not resolve host: example.org",
    "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    "npm error code EAI_AGAIN",
    "ssh: connect to host 1.2.3.4 port 22: Network is unreachable",
    "ping: example.org: Name or service not known",
    "W: Failed to fetch http://x/  Temporary failure resolving 'x'",
    "dial tcp: lookup example.org on [::1]:53: read: connection refused",
    "error: failed to lookup address information: Temporary failure in name resolution",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_words_of_common_tools_are_recognised(message):
    hint = network_hint(ExecResult(exit_code=1, stderr_bytes=message.encode()))
    assert hint is not None
    assert 'network = "host"' in hint


def test_success_and_other_failures_get_no_advice():
    assert network_hint(ExecResult(exit_code=0, stderr_bytes=MESSAGES[0].encode())) is None
    assert network_hint(ExecResult(exit_code=1, stderr_bytes=b"assertion failed: network of trains")) is None
    assert network_hint(ExecResult(exit_code=1, stderr_bytes=MESSAGES[0].encode() + b"x" * (1 << 20))) is None


@pytest.mark.requires("sandbox")
async def test_a_machine_gives_it_only_when_its_network_is_off(helpers):
    script = "python3 -c 'import socket; socket.getaddrinfo(\"example.org\", 80)'"
    for network, advised in (("none", True), ("host", False)):
        machine = LocalMachine(LocalConfig(network=network))
        await machine.start()
        try:
            if network == "none":
                result = await helpers.sh(machine, script, timeout=60)
                assert not result.ok
            assert (machine.hint(result) is not None) is advised
        finally:
            await machine.stop()
