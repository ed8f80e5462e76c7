"""What is sent for a command, and quoting, tried on real shells.

Time budget: 30 s.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitmachine.execution import ExecRequest
from gitmachine.machines.channel import Shell
from gitmachine.machines.channel.quoting import escape_format, quote, quote_text
from gitmachine.machines.channel.turn import Turn, TurnKind
from gitmachine.machines.channel.wire import EMBEDDED_BYTES, command_order, marked_argv, script_order
from support.channels import SHELLS

SHELL = Shell(pid=7, mark_option="w", reopens=True, counts=True, takes_input=True)
MARK = "123456789012345678"
TURN = Turn(kind=TurnKind.COMMAND, token="feed", number=7, mark=MARK)


def order(request: ExecRequest, shell: Shell = SHELL, **fields):
    return command_order(TURN, request, shell, **{"cwd": "/w", "env": {}, **fields})


def run(shell: str, script: bytes) -> bytes:
    return subprocess.run(SHELLS[shell], input=script, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40)
@given(words=st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"")), min_size=1, max_size=8))
def test_every_shell_reads_a_quoted_word_as_it_was(shell, words):
    texts = [os.fsdecode(word) for word in words]
    script = b"printf '%s\\0' " + b" ".join(map(quote, texts)) + b"\n"
    assert run(shell, script).split(b"\0")[:-1] == words


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40)
@given(data=st.binary(max_size=200))
def test_every_shell_prints_escaped_data_exactly(shell, data):
    assert run(shell, b"printf " + escape_format(data) + b"\n") == data


@pytest.mark.parametrize("shell", SHELLS)
def test_every_byte_and_a_leading_dash_survive_printing(shell):
    for data in (bytes(range(256)) * 4, b"-n", b"--", b"%s\\n%", b"\\0001", b"'" * 9):
        assert run(shell, b"printf " + escape_format(data) + b"\n") == data, data


def test_a_quoted_string_is_the_same_as_bytes():
    assert quote_text("it's").encode() == quote("it's")


def test_an_order_is_one_compound_command_and_one_line_behind_an_empty_one():
    text = order(ExecRequest(shell="echo x")).text
    assert text.startswith(b"\nif ")
    assert text.endswith(b"; fi\n")
    assert text.count(b"\n") == 2


def test_simple_variables_are_exported_and_others_go_through_env():
    text = order(ExecRequest(argv=["x"]), env={"A": "1", "B.C": "2", "PATH": "/p", "OPTIND": "z", "LC_ALL": "C"}).text
    assert b"export A='1';" in text
    assert b"exec env -- 'B.C=2' 'PATH=/p' 'OPTIND=z' 'LC_ALL=C' x" in text


def test_a_program_that_looks_like_a_variable_is_not_given_to_env():
    text = order(ExecRequest(argv=["a=b"]), env={"X.Y": "1"}).text
    assert b"""env -- 'X.Y=1' sh -c 'exec "$@"' sh 'a=b'""" in text


def test_a_program_with_a_leading_dash_is_no_option():
    assert b"exec env -- -x" in order(ExecRequest(argv=["-x"])).text


def test_a_relative_directory_is_never_an_option_and_never_the_last_one():
    assert b"_gm_d='./-'; if cd -P" in order(ExecRequest(argv=["x"]), cwd="-").text


def test_small_input_stands_in_the_order_and_large_input_does_not():
    small = order(ExecRequest(argv=["cat"], stdin=b"x" * EMBEDDED_BYTES))
    large = order(ExecRequest(argv=["cat"], stdin=b"x" * (EMBEDDED_BYTES + 1)))
    assert small.raw is None
    assert large.raw == b"x" * (EMBEDDED_BYTES + 1)
    assert b"head -c 16385" in large.text


def test_the_input_of_a_command_without_one_is_empty():
    assert b"</dev/null" in order(ExecRequest(argv=["cat"])).text
    assert b"</dev/null" in order(ExecRequest(argv=["cat"], stdin=b"")).text


def test_a_shell_that_cannot_mark_is_not_asked_to():
    text = order(ExecRequest(argv=["x"]), Shell(pid=7, reopens=False)).text
    assert b"ulimit" not in text
    assert b">&3 2>&4" in text
    assert marked_argv(("a", "b"), Shell(pid=7), MARK) == ["a", "b"]
    assert marked_argv(("a", "b"), None, MARK) == ["a", "b"]


@pytest.mark.requires("dash")
def test_a_marked_command_carries_its_mark():
    argv = marked_argv(("sh", "-c", "grep 'file locks' /proc/self/limits; echo \"$1\"", "x", "a b"), SHELL, MARK)
    output = subprocess.run(["dash", *argv[1:]], capture_output=True, check=True, timeout=60).stdout
    assert MARK.encode() in output
    assert output.endswith(b"a b\n")


def test_neither_token_nor_input_are_shown_by_a_repr():
    request = ExecRequest(argv=["cat"], stdin=b"secret" * 9999)
    assert "secret" not in repr(order(request, env={"A": "canary"}))
    assert "canary" not in repr(order(request, env={"A": "canary"}))


def test_a_script_of_ours_runs_in_the_waiting_shell_itself():
    assert script_order(TURN, "kill -9 1").text == b'\nif [ "$1" = 7 ]; then {\nkill -9 1\n}; exit $?; fi\n'


@pytest.mark.parametrize("shell", SHELLS)
def test_an_order_for_another_turn_does_nothing(shell):
    text = order(ExecRequest(shell="echo wrong"), cwd="/").text
    for script in (text, b"set -- 8\n" + text):
        assert run(shell, script + b"echo right\n") == b"right\n"
