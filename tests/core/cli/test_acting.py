"""What a command on a machine is given, and that a token goes to its own repository only. Time budget: 3 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.cli.acting import means
from gitmachine.config.load import load_config
from gitmachine.git.names import check_repository
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord

HERE = "https://example.org/here.git"
ELSEWHERE = "https://example.net/elsewhere.git"


@pytest.fixture
async def machines() -> None:
    """Machines for two repositories."""
    async with await Journal.aopen(Places.default().ensure()) as journal:
        for name, url in (("here", HERE), ("elsewhere", ELSEWHERE)):
            repository = check_repository(url).canonical
            await journal.begin_machine(
                MachineRecord(key=name, name=name, provider="p", repository=repository, session="s")
            )


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gitmachine.toml"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("machines")
async def test_a_token_beside_a_repository_goes_to_no_other(tmp_path: Path) -> None:
    settings = load_config(written(tmp_path, f'repository = "{HERE}"\ntoken = "secret-token"\n'), environ={})
    assert (await means(settings, "here"))["token"] == "secret-token"
    assert (await means(settings, "elsewhere"))["token"] is None
    assert (await means(settings, "unknown"))["token"] is None
    assert (await means(settings))["token"] is None


@pytest.mark.usefixtures("machines")
async def test_a_token_that_stands_alone_or_in_the_environment_goes_to_each(tmp_path: Path) -> None:
    alone = load_config(written(tmp_path, 'token = "secret-token"\n'), environ={})
    assert (await means(alone, "elsewhere"))["token"] == "secret-token"
    path = written(tmp_path, f'repository = "{HERE}"\n')
    given = load_config(path, environ={"GITMACHINE_TOKEN": "secret-token"})
    assert (await means(given, "elsewhere"))["token"] == "secret-token"
    assert (await means(given))["token"] == "secret-token"
