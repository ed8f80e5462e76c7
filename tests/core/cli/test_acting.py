"""What a command on a machine is given, and that a token goes to its own repository only. Time budget: 5 s."""

from __future__ import annotations

import signal
import subprocess
import sys
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
    assert (await means(settings, repository=HERE))["token"] == "secret-token"
    assert (await means(settings, repository=ELSEWHERE))["token"] is None
    async with await Journal.aopen(Places.default()) as journal:
        await journal.end_machine("elsewhere")
    assert (await means(settings))["token"] == "secret-token"


@pytest.mark.usefixtures("machines")
async def test_a_token_that_stands_alone_or_in_the_environment_goes_to_each(tmp_path: Path) -> None:
    alone = load_config(written(tmp_path, 'token = "secret-token"\n'), environ={})
    assert (await means(alone, "elsewhere"))["token"] == "secret-token"
    path = written(tmp_path, f'repository = "{HERE}"\n')
    given = load_config(path, environ={"GITMACHINE_TOKEN": "secret-token"})
    assert (await means(given, "elsewhere"))["token"] == "secret-token"
    assert (await means(given))["token"] == "secret-token"


SCRIPT = """
import asyncio
from gitmachine.cli.acting import interruptible

async def stubborn():
    print("up", flush=True)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print("told", flush=True)

async def main(interrupts):
    await interrupts.run(stubborn())

interruptible(main, "this")
"""


def test_a_second_ctrl_c_leaves_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        assert process.stdout is not None
        try:
            for line in ("up\n", "told\n"):
                assert process.stdout.readline() == line
                process.send_signal(signal.SIGINT)
            _out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    first, second = err.splitlines()
    assert first == "gitmachine: interrupted: ending 'this' (Ctrl-C again leaves at once)"
    assert second.startswith("gitmachine: left at once: 'this' was not ended")
