"""What is wrong is found, with what to do. Time budget: 10 s."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gitmachine.cli import main


def checks(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[tuple[str, str], dict[str, object]]]:
    code = main(["doctor", *args, "--json"])
    document = json.loads(capfd.readouterr().out)
    assert document["ok"] is (code == 0)
    return code, {(item["section"], item["name"]): item for item in document["checks"]}


def test_the_host_is_looked_at(capfd: pytest.CaptureFixture[str], gitmachine_home: Path) -> None:
    _code, found = checks(capfd)
    assert found["host", "python"]["ok"] is True
    assert found["host", "git"]["ok"] is True
    assert str(gitmachine_home) in str(found["host", "places"]["detail"])
    assert found["plugins", "local"]["ok"] is True
    assert any(section == "provider local" for section, _name in found)


@pytest.mark.requires("sandbox")
def test_a_healthy_host_is_0(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITMACHINE_DISABLE_PLUGINS", "local_docker,ssh,e2b")  # services that are not of this host
    assert main(["doctor"]) == 0
    captured = capfd.readouterr()
    assert "FAIL" not in captured.out
    assert captured.out.startswith("host\n  ok    python: 3.")


def test_a_missing_git_is_found(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, found = checks(capfd)
    assert code == 1
    assert found["host", "git"]["detail"] == "not found on PATH"
    assert found["host", "git"]["fix"] == "install git 2.38 or newer"


def test_a_wrong_configuration_is_a_finding(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitmachine.toml").write_text("sesion = 1\ntimeout = 'x'")
    code, found = checks(capfd)
    assert code == 1
    detail = str(found["configuration", "configuration"]["detail"])
    assert "did you mean 'session'?" in detail
    assert "expected a number, not 'x' @ timeout" in detail
    assert main(["doctor"]) == 1
    out = capfd.readouterr().out
    assert "FAIL  configuration: 2 problems in" in out
    assert "`gitmachine config check` looks again" in out


def test_wrong_options_of_a_provider_are_a_finding(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitmachine.toml").write_text("[providers.local]\nnetwork = 'on'")
    code, found = checks(capfd, "local")
    assert code == 1
    assert any("@ providers.local.network" in str(item["detail"]) for item in found.values())


def test_options_and_machines_are_looked_at_as_run_would_have_them(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitmachine.toml").write_text("[machines.box]\nprovider = 'local'\n[machines.wrong]\nnetwork = 'on'")
    _code, found = checks(capfd, "-m", "box")
    assert next(section for section, _name in found if section.startswith("provider")) == "provider local"
    for args in (("local", "-o", "network=on"), ("-m", "box", "-o", "network=on"), ("-m", "wrong")):
        code, found = checks(capfd, *args)
        finding = found["provider local", "configuration"]
        assert (code, "expected one of none, host, not 'on'" in str(finding["detail"])) == (1, True)
        assert finding["fix"] == "say it with -o KEY=VALUE, or under [providers.local] in the configuration file"
    assert main(["doctor", "-m", "nosuch"]) == 2
    assert "no machine 'nosuch' in the configuration: known here: box, wrong" in capfd.readouterr().err


def test_places_that_cannot_be_made_are_told_once(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GITMACHINE_HOME", str(tmp_path / "file"))
    _code, found = checks(capfd, "local")
    places = found["host", "places"]
    assert places["detail"] == f"cannot make the folder '{tmp_path}/file/state': File exists"
    assert places["fix"] == "make it writable, or set GITMACHINE_HOME to a folder that is"


def test_an_unknown_provider_is_a_mistake_of_the_caller(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "locla"]) == 2
    assert "unknown provider 'locla'; did you mean 'local'?" in capfd.readouterr().err


def test_a_home_that_cannot_be_made_is_found(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GITMACHINE_HOME", str(tmp_path / "file" / "home"))
    code, found = checks(capfd)
    assert code == 1
    assert "cannot make the folder" in str(found["host", "places"]["detail"])
