"""The configuration shown, checked, described and found. Time budget: 5 s."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from gitmachine.cli import main

CANARY = "c4n4ry-s3cret"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gitmachine.toml"


def test_what_holds_is_shown_with_its_origin(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('session = "file"\ntimeout = 5\n[providers.local]\nnetwork = "host"\n')
    monkeypatch.setenv("GITMACHINE_SESSION", "environment")
    assert main(["config", "show"]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"# {file}\n")
    assert 'session = "environment"  # environment\n' in out
    assert "timeout = 5.0  # file\n" in out
    assert "auto_commit = true  # default\n" in out
    assert 'providers.local.network = "host"  # file\n' in out
    assert tomllib.loads(out)["git"]["transport"] == "relay"
    assert main(["config"]) == 0
    assert capfd.readouterr().out == out
    assert main(["config", "--json", "check"]) == 2
    assert "write --json and --config after 'check'" in capfd.readouterr().err
    assert main(["config", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["source"] == str(file)
    assert main(["config", "show", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["source"] == str(file)
    assert document["settings"]["session"] == "environment"
    assert document["origins"]["session"] == "environment"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_secret_is_shown(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: list[str]
) -> None:
    file.write_text(
        f"""
        repository = "https://user:{CANARY}@example.org/r.git"
        env = {{ ANTHROPIC_API_KEY = "{CANARY}" }}
        [providers.e2b]
        api_key = "{CANARY}"
        base_url = "https://a:{CANARY}@h"
        deep = {{ password = "{CANARY}" }}
        [machines.m]
        provider = "e2b"
        access_token = "${{CANARY_VARIABLE}}"
        """
    )
    monkeypatch.setenv("GITMACHINE_TOKEN", CANARY)
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    assert main(["config", "show", *as_json]) == 0
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err
    assert "${CANARY_VARIABLE}" in captured.out
    assert "ANTHROPIC_API_KEY" in captured.out
    assert "https://example.org/r.git" in captured.out


def test_check_tells_everything_at_once(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        'provider = "locl"\n[providers.local]\nnetwork = "on"\nbinds = "x"\n[machines.m]\nprovider = "local"\nx=1'
    )
    assert main(["config", "check"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"gitmachine: 4 problems in {file}"
    assert "  expected one of none, host, not 'on' @ providers.local.network" in lines
    assert any(line.startswith("  unknown provider 'locl'; did you mean 'local'?") for line in lines)
    assert any(line.startswith("  unknown key @ machines.m.x: known here: ") for line in lines)
    assert main(["config", "check", "--json"]) == 2
    document = json.loads(capfd.readouterr().out)
    assert document["ok"] is False
    assert document["source"] == str(file)
    assert len(document["problems"]) == 4


def test_check_is_content_with_a_good_file(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[providers.local]\nnetwork = "host"')
    monkeypatch.setenv("GITMACHINE_SESION", "x")
    assert main(["config", "check"]) == 0
    captured = capfd.readouterr()
    assert captured.out == f"ok: {file}\n"
    assert "did you mean GITMACHINE_SESSION?" in captured.err


def test_a_file_that_is_not_toml_is_told_with_its_line(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text("a = 1\nb =\n")
    for command in (["config", "show"], ["config", "check"], ["providers"]):
        assert main(command) == 2
        assert f"{file} is not valid TOML: invalid value @ line 2, column 4" in capfd.readouterr().err


def test_the_schema_is_json_with_the_installed_providers(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert "network" in schema["properties"]["providers"]["properties"]["local"]["properties"]
    assert main(["config", "schema", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == schema


def test_the_path_is_the_file_that_is_read(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "path"]) == 1
    assert "no configuration file is found" in capfd.readouterr().err
    file.write_text("broken =")
    assert main(["config", "path"]) == 0
    assert capfd.readouterr().out == f"{file}\n"
    assert main(["config", "path", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["path"] == str(file)
    assert document["user"].endswith("gitmachine.toml")
