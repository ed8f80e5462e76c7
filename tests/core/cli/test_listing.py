"""What is installed is listed, and what is broken is said. Time budget: 5 s."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitmachine.cli import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROVIDERS = ["local", "local_docker", "ssh", "e2b"]
BROKEN = '[gitmachine]\nbroken = "no_such_module_anywhere"\n'
METADATA = "Metadata-Version: 2.1\nName: broken-plugin\nVersion: 9.1\n"


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """Install a distribution whose plugin cannot be imported, and return the environment that finds it."""
    info = tmp_path / "site" / "broken_plugin-9.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(BROKEN)
    return {"PYTHONPATH": str(tmp_path / "site")}


def test_providers_are_listed_with_their_package(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    local = next(item for item in document["providers"] if item["name"] == "local")
    assert local["distribution"] == "gitmachine-local"
    assert local["usable"] is True
    assert local["summary"]
    assert document["broken"] == []
    assert main(["providers"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["PROVIDER", "ALIASES", "PACKAGE", "SUMMARY"]
    assert any(line.startswith("local ") and "gitmachine-local" in line for line in lines)


def test_plugins_are_listed_with_their_hooks(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    found = {item["name"]: item for item in json.loads(capfd.readouterr().out)["plugins"]}
    assert found["local"]["status"] == "ok"
    assert found["local"]["hooks"] == ["gitmachine_register_providers"]
    assert "gitmachine_git_credentials" in found["core"]["hooks"]
    assert main(["plugins"]) == 0
    assert "register_providers" in capfd.readouterr().out


def test_a_broken_plugin_is_said_by_name_and_stops_nothing(gitmachine: Run, broken: dict[str, str]) -> None:
    done = gitmachine("providers", env=broken)
    assert done.returncode == 0
    assert "local" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert line.split()[:3] == ["broken", "broken-plugin", "9.1"]
    assert "no_such_module_anywhere" in line
    document = json.loads(gitmachine("plugins", "--json", env=broken).stdout)
    (entry,) = [item for item in document["plugins"] if item["name"] == "broken"]
    assert (entry["status"], entry["distribution"], entry["version"]) == ("broken", "broken-plugin", "9.1")


def test_a_strict_configuration_makes_a_broken_plugin_an_error(
    gitmachine: Run, broken: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "gitmachine.toml").write_text("[plugins]\nstrict = true")
    done = gitmachine("providers", env=broken)
    assert done.returncode == 2
    assert "broken-plugin 9.1" in done.stderr


def test_the_configuration_and_the_environment_choose_plugins(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitmachine.toml").write_text(f"[plugins]\ndisable = {PROVIDERS}")
    assert main(["providers"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "gitmachine: no provider is installed: pip install gitmachine-local\n"
    assert main(["plugins"]) == 0
    assert "DISABLED" in capfd.readouterr().out
    monkeypatch.setenv("GITMACHINE_DISABLE_PLUGINS", "")
    assert main(["providers"]) == 0
    assert "gitmachine-local" in capfd.readouterr().out
