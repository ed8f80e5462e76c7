"""Requests that cannot be run are refused before anything runs; results say what happened.

Time budget: 5 s.
"""

from __future__ import annotations

import signal
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitmachine.errors import ConfigError
from gitmachine.execution import ExecRequest, ExecResult


def test_a_script_runs_in_sh_and_an_argv_in_nothing():
    assert ExecRequest(shell="echo $X").command == ("sh", "-c", "echo $X")
    assert ExecRequest(argv=["echo", "$X"]).command == ("echo", "$X")
    assert ExecRequest(shell="").command == ("sh", "-c", "")


def test_paths_are_taken_as_strings():
    request = ExecRequest(argv=[PurePosixPath("/bin/ls"), "-l"], cwd=PurePosixPath("/tmp"))
    assert request.argv == ("/bin/ls", "-l")
    assert request.cwd == "/tmp"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "either argv or shell"),
        ({"argv": ["ls"], "shell": "ls"}, "either argv or shell"),
        ({"argv": []}, "argv is empty"),
        ({"argv": [""]}, "argv is empty"),
        ({"argv": "ls -l"}, "pass shell= for a script"),
        ({"argv": b"ls"}, "must be a list of strings"),
        ({"argv": ["head", 5]}, r"argv\[1\] must be a string, not 5"),
        ({"argv": ["a\0b"]}, "NUL"),
        ({"argv": ["\ud800"]}, "no bytes"),
        ({"shell": "a\0b"}, "NUL"),
        ({"shell": 7}, "shell must be a string"),
        ({"shell": "ls", "cwd": ""}, "cwd is empty"),
        ({"shell": "ls", "cwd": "/a\0b"}, "NUL"),
        ({"shell": "ls", "env": {"": "x"}}, "invalid environment variable name ''"),
        ({"shell": "ls", "env": {"A=B": "x"}}, "invalid environment variable name 'A=B'"),
        ({"shell": "ls", "env": {"A\0": "x"}}, "invalid environment variable name"),
        ({"shell": "ls", "env": {3: "x"}}, "invalid environment variable name 3"),
        ({"shell": "ls", "env": {"A": 5}}, "'A' must be a string, not 5"),
        ({"shell": "ls", "env": {"A": "\0"}}, "'A' holds a NUL"),
        ({"shell": "ls", "timeout": 0}, "more than 0 seconds"),
        ({"shell": "ls", "timeout": -1.5}, "more than 0 seconds, not -1.5"),
        ({"shell": "ls", "timeout": float("nan")}, "more than 0 seconds"),
        ({"shell": "ls", "max_output_bytes": -1}, "max_output_bytes"),
        ({"shell": "cat", "stdin": "text"}, "stdin must be bytes"),
    ],
)
def test_what_cannot_be_run_is_refused(fields, says):
    with pytest.raises(ConfigError, match=says):
        ExecRequest(**fields)


@given(st.binary(min_size=1, max_size=20).filter(lambda data: b"\0" not in data))
def test_bytes_that_are_not_utf8_can_be_arguments(data):
    text = data.decode("utf-8", "surrogateescape")
    assert ExecRequest(argv=[text]).command == (text,)


def test_the_environment_is_a_copy():
    env = {"A": "1"}
    request = ExecRequest(shell="true", env=env)
    env["A"] = "2"
    assert request.env == {"A": "1"}


def test_a_repr_shows_no_input():
    assert "secret" not in repr(ExecRequest(shell="cat", stdin=b"secret"))


def test_a_result_is_text_and_exact_bytes():
    result = ExecResult(exit_code=3, stdout_bytes=b"a\xff\r\n", stderr_bytes=b"\xc3\xa9")
    assert result.stdout == "a\N{REPLACEMENT CHARACTER}\r\n"
    assert result.stderr == "é"
    assert not result.ok
    assert ExecResult(exit_code=0).ok


def test_an_exit_code_names_its_signal():
    assert ExecResult(exit_code=128 + signal.SIGKILL).signal == "SIGKILL"
    assert ExecResult(exit_code=0).signal is None
    assert ExecResult(exit_code=128).signal is None
    assert ExecResult(exit_code=255).signal is None
