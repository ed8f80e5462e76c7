"""Errors become one sentence and an exit code, whatever the command. Time budget: 10 s."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gitmachine import __version__
from gitmachine.cli import app, main
from gitmachine.cli.overview import OVERVIEW
from gitmachine.errors import (
    ConfigError,
    GitError,
    MachineError,
    MachineLostError,
    PushRejectedError,
    StopRefused,
    UnknownProviderError,
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_one_line(gitmachine: Run, flag: str) -> None:
    done = gitmachine(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gitmachine {__version__}\n", "")


def test_the_installed_command_is_the_same() -> None:
    script = Path(sys.executable).with_name("gitmachine")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == f"gitmachine {__version__}\n"


def test_every_command_has_help() -> None:
    runner = CliRunner()
    for name in app.COMMANDS:
        answer = runner.invoke(app.cli, [name, "--help"])
        assert answer.exit_code == 0, name
        assert answer.output.startswith("Usage:"), name
    listing = runner.invoke(app.cli, ["--help"]).output
    assert all(f"  {name} " in listing for name in app.COMMANDS)


def test_every_command_has_its_line_in_the_overview() -> None:
    lines = {name: text for commands in OVERVIEW.values() for name, text in commands.items()}
    assert sum(map(len, OVERVIEW.values())) == len(lines)
    assert lines.keys() == app.COMMANDS.keys()
    assert [text for text in lines.values() if len(text) > 61] == []  # a terminal of 80 columns cuts nothing


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["confg"], "gitmachine: no command 'confg': did you mean 'config'? (see: gitmachine --help)\n"),
        (["providers", "--jsno"], "gitmachine: no such option '--jsno'"),
        (["run"], "gitmachine: missing argument 'COMMAND...' (see: gitmachine run --help)\n"),
        (["run", "--timeout"], "gitmachine: option '--timeout' requires an argument (see: gitmachine run --help)\n"),
        (["run", "--", ""], "gitmachine: COMMAND begins with '': its first string names the program\n"),
        (["exec", "a", ""], "gitmachine: COMMAND begins with '': its first string names the program\n"),
        (["spawn", "a", ""], "gitmachine: COMMAND begins with '': its first string names the program\n"),
        (["doctor", "-o", "a=b"], "gitmachine: -o is an option of a provider: name PROVIDER, or a machine with -m"),
        (["config", "chek"], "gitmachine: no such command 'chek'"),
        (["completion"], "gitmachine: missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish (see: "),
        (
            ["log", "a", "-n", "x"],
            "gitmachine: invalid value for '-n' / '--number': 'x' is not a valid whole number (see: ",
        ),
        (
            ["cache", "prune", "--max-age", "x"],
            "gitmachine: invalid value for '--max-age': 'x' is not a valid number (see: ",
        ),
    ],
)
def test_a_mistake_in_usage_is_one_sentence_and_2(
    capfd: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(args) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("one"), 2, "one"),
        (ConfigError("one", "two", source="f.toml"), 2, "2 problems in f.toml\n  one\n  two"),
        (ConfigError("one", source="f.toml"), 2, "one (f.toml)"),
        (UnknownProviderError("who?", name="x"), 2, "who?"),
        (MachineError("broken"), 1, "broken"),
        (MachineLostError("gone"), 4, "gone"),
        (PushRejectedError("no", stderr="remote: rule\nremote: 2\n"), 3, "no\n  remote: rule\n  remote: 2"),
        (StopRefused("kept"), 3, "kept"),
        (GitError("git \x1b[31mred"), 1, "git \ufffd[31mred"),
        (RuntimeError("oops"), 1, "internal error: RuntimeError: oops (--debug shows where; please report it)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_a_sentence_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    from gitmachine.cli import listing

    monkeypatch.setattr(listing.providers, "callback", fail)
    assert main(["providers"]) == code
    assert capfd.readouterr().err.lstrip() == f"gitmachine: {message}\n"


@pytest.mark.parametrize(
    ("args", "env"), [(["--debug", "providers"], "0"), (["providers", "--debug"], ""), (["providers"], "1")]
)
def test_debug_shows_the_traceback_and_ends_with_the_sentence(
    gitmachine: Run, tmp_path: Path, args: list[str], env: str
) -> None:
    (tmp_path / "gitmachine.toml").write_text("x = 1")
    done = gitmachine(*args, env={"GITMACHINE_DEBUG": env})
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("gitmachine: unknown key @ x: known here: auto_commit")


def test_without_debug_there_is_no_traceback(gitmachine: Run, tmp_path: Path) -> None:
    (tmp_path / "gitmachine.toml").write_text("x = 1")
    done = gitmachine("providers")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_reader_that_is_gone_is_no_traceback(gitmachine_home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "gitmachine", "config", "schema"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=100,
            check=False,
        )
    assert done.returncode == 141
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_on_a_full_disk_is_one_sentence(gitmachine_home: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$1" -m gitmachine providers > /dev/full', "sh", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    message = "gitmachine: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize("descriptor", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_is_no_obstacle(gitmachine_home: Path, tmp_path: Path, descriptor: str) -> None:
    script = f'"$1" -m gitmachine providers --json {descriptor}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable], cwd=tmp_path, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0
    assert "1>&-" in descriptor or json.loads(done.stdout)["providers"] is not None
