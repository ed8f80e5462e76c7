"""What a session is asked for is looked at before anything starts, and a mistake is a sentence. Time budget: 5 s."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, ConfigError, ExecRequest, GitMachine
from gitmachine.testing import FakeMachine
from support.repos import make_remote

BOTH = pytest.mark.parametrize("cls", [GitMachine, AsyncGitMachine])

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"repository": 7}, "expected a URL or a path, not 7 @ repository"),
    ({"session": 5}, "expected the name of a branch, not 5 @ session"),
    ({"env": "A=canary"}, "expected a mapping of variables to values, not something of type str @ env"),
    ({"token": 5}, "expected a string or a callable, not something of type int @ token"),
    ({"identity": "Ada <a@b.c>"}, "expected a GitIdentity(name, email), not 'Ada <a@b.c>' @ identity"),
    ({"git": {"depth": 1}}, "expected GitOptions(...), not {'depth': 1} @ git"),
    ({"guard": False}, "expected GuardOptions(...), not False @ guard"),
    ({"timeout": "5"}, "expected a number of seconds, not '5' @ timeout"),
    ({"path": Path("/x")}, "expected a path in the machine, not "),
    ({"name": 5}, "expected a machine's name, not 5 @ name"),
    ({"on_start": "ls"}, "expected a callable, not 'ls' @ on_start"),
    ({"on_event": "print"}, "expected a callable, not 'print' @ on_event"),
    ({"options": "x"}, "expected a mapping of the provider's options, not something of type str @ options"),
]


@BOTH
@pytest.mark.parametrize(("given", "message"), MISTAKES, ids=[next(iter(given)) for given, _message in MISTAKES])
def test_something_of_another_kind_is_told_with_its_name(cls: type[Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cls(FakeMachine(), **{"repository": "r.git", **given})
    assert str(caught.value).startswith(message)
    assert "canary" not in str(caught.value)


def test_all_such_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        GitMachine(FakeMachine(), repository="r.git", session=5, on_end="x", timeout="5")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("form", [Path, os.fspath], ids=["Path", "str"])
def test_a_path_may_be_a_path(tmp_path: Path, form: Any) -> None:
    made = make_remote(tmp_path / "r.git", commits=1)
    with GitMachine(FakeMachine(), repository=form(made), session="feat") as gm:
        assert gm.repository == str(made)
        gm.run("echo x > x", check=True)
    assert gm.receipt is not None
    assert gm.receipt.pushed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"argv": 5}, "argv must be a list of strings, not 5"),
        ({"shell": 5}, "shell must be a string, not 5"),
        ({"shell": "ls", "env": "A=canary"}, "env must be a mapping of variables to values, not something of type str"),
        ({"shell": "ls", "timeout": "5"}, "timeout must be a number of seconds, not '5'"),
        ({"shell": "ls", "stdin": 5}, "stdin must be bytes or an async iterable of bytes, not 5"),
    ],
)
def test_a_command_of_another_kind_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ExecRequest(**given)
    assert str(caught.value) == message
