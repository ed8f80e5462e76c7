"""Where a port can be reached, and staying for as long as the way there needs it. Time budget: 5 s."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import click
import pytest

from gitmachine.cli import main
from gitmachine.errors import MachineLostError
from gitmachine.machine import Host


class Session:
    """As much of a session as the command looks at; the machine is gone at the second look."""

    def __init__(self, *, lasts: bool) -> None:
        self.machine = SimpleNamespace(ports_last=lasts)
        self.looks = 0

    async def get_host(self, number: int) -> Host:
        return Host(f"127.0.0.1:{number + 1}")

    async def list_files(self, _path: str) -> list[str]:
        self.looks += 1
        if self.looks == 2:
            raise MachineLostError("the machine is gone")
        return []


def acting(session: Session, *, interrupted: bool = False) -> Callable[..., Any]:
    def act(_name: str, work: Callable[[Session], Awaitable[None]], **_: object) -> None:
        async def main() -> None:
            await asyncio.wait_for(work(session), 30)

        if not interrupted:
            return asyncio.run(main())
        try:
            asyncio.run(main())
        except MachineLostError:
            raise click.Abort from None

    return act


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitmachine.cli.ports._LOOK_SECONDS", 0.0)


def test_the_address_is_printed_and_that_is_all(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gitmachine.cli.acting.act", acting(Session(lasts=True)))
    assert main(["port", "a", "8000"]) == 0
    assert capfd.readouterr() == ("127.0.0.1:8001\n", "")
    assert main(["port", "a", "8000", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == {"host": "127.0.0.1:8001", "url": "http://127.0.0.1:8001", "lasts": True}


def test_it_stays_where_the_way_lasts_only_as_long_as_it_and_an_interruption_is_its_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gitmachine.cli.acting.act", acting(Session(lasts=False), interrupted=True))
    assert main(["port", "a", "8000"]) == 0
    out, err = capfd.readouterr()
    assert out == "127.0.0.1:8001\n"
    assert "until this command ends: Ctrl-C ends it" in err


def test_it_ends_with_the_machine(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gitmachine.cli.acting.act", acting(Session(lasts=False)))
    assert main(["port", "a", "8000"]) == 4
    assert "the machine is gone" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["port", "a"], 2, "missing argument"),
        (["port", "a", "0"], 2, "0 is not in the range"),
        (["port", "a", "65536"], 2, "65536 is not in the range"),
        (["port", "a", "http"], 2, "not a valid"),
        (["port", "a", "80"], 1, "no machine has the name or id 'a'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    args: list[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == code
    out, err = capfd.readouterr()
    assert (out, says in err) == ("", True), err
