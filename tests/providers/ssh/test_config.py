"""The options: what is refused before anything is connected, and what reaches the commands.

Time budget: 5 s.
"""

from __future__ import annotations

import attrs
import pytest

from gitmachine import ConfigError, ExecRequest
from gitmachine.config.structure import structure
from gitmachine_ssh import SSHConfig, SSHMachine


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "expected a string, found nothing @ host"),
        ({"host": ""}, "expected a name or a path, not '' @ host"),
        ({"host": "-oProxyCommand=x"}, "not '-oProxyCommand=x' @ host"),
        ({"host": "a\nb"}, "@ host"),
        ({"host": "h", "port": 0}, "expected a port from 1 to 65535, not 0 @ port"),
        ({"host": "h", "user": "-x"}, "@ user"),
        ({"host": "h", "jump": ""}, "@ jump"),
        ({"host": "h", "shell": "sh -x"}, "without spaces or quotes, not 'sh -x' @ shell"),
        ({"host": "h", "keepalive": 0}, "expected 0.1 to 3600 seconds, not 0.0 @ keepalive"),
        ({"host": "h", "connect_timeout": -1}, "@ connect_timeout"),
        ({"host": "h", "env": {"A=B": "x"}}, "invalid environment variable 'A=B'"),
        ({"host": "h", "hots": "x"}, "unknown key"),
    ],
)
def test_what_cannot_work_is_refused_with_its_path(options, problem):
    with pytest.raises(ConfigError, match=problem):
        structure(SSHConfig, options)


def test_one_file_may_stand_for_a_list_and_secrets_are_not_shown():
    config = structure(SSHConfig, {"host": "h", "identity_file": ["a", "b"], "known_hosts": ["k"], "agent": "/sock"})
    assert (config.identity_file, config.known_hosts, config.agent) == (("a", "b"), ("k",), "/sock")
    assert SSHConfig(host="h", identity_file="a").identity_file == ("a",)
    shown = repr(SSHConfig(host="h", password="hunter2", passphrase="sesame", env={"KEY": "value"}))
    assert not [word for word in ("hunter2", "sesame", "value") if word in shown]


@pytest.mark.requires("sshd", "root", "bash")
async def test_variables_and_the_shell_reach_every_command(config):
    machine = SSHMachine(attrs.evolve(config, env={"A": "one", "odd.name": "x", "PATH": "/usr/bin:/bin"}, shell="bash"))
    await machine.start()
    try:
        script = 'echo "$A $B $PATH" ${BASH_VERSION:+bash}; env | grep odd'
        for open_stdin in (False, True):
            process = await machine.spawn(ExecRequest(shell=script, env={"B": "two"}, open_stdin=open_stdin))
            if open_stdin:
                await process.stdin.close()
            output = b"".join([data async for data in process.stdout])
            assert output == b"one two /usr/bin:/bin bash\nodd.name=x\n"
            assert await process.wait() == 0
        result = await machine.execute(ExecRequest(argv=["sh", "-c", 'echo "$A" "$1"', "sh", "it's"], env={"A": "own"}))
        assert result.stdout == "own it's\n"
    finally:
        await machine.stop()
