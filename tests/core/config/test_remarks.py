"""Names in a configuration that are nearly right are remarked on; others are left to other hosts.

Time budget: 5 s.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gitmachine.cli import main
from gitmachine.config.load import load_config
from gitmachine.config.remarks import remarks
from gitmachine.plugins.host import PluginHost

HOST = PluginHost.default({})


def remarked(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "gitmachine.toml").write_text(text)
    return remarks(load_config(tmp_path / "gitmachine.toml", environ={}), HOST)


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            "[providers.locl]\nnetwork = 'none'",
            "no provider 'locl' is installed @ providers.locl: did you mean 'local'?",
        ),
        (
            "[providers.Local-Dockr]",
            "no provider 'Local-Dockr' is installed @ providers.Local-Dockr: did you mean 'local_docker'?",
        ),
        (
            "[machines.box]\nprovider = 'dockre'",
            "no provider 'dockre' is installed @ machines.box.provider: did you mean 'docker'?",
        ),
        ("[plugins]\ndisable = ['gard']", "no plugin 'gard' is installed @ plugins.disable: did you mean 'guard'?"),
        ("[plugins]\nenable = ['gaurd']", "no plugin 'gaurd' is installed @ plugins.enable: did you mean 'guard'?"),
        ("[plugins.options.gard]", "no plugin 'gard' is installed @ plugins.options.gard: did you mean 'guard'?"),
    ],
)
def test_a_name_that_is_nearly_right_is_remarked_on(tmp_path: Path, text: str, remark: str) -> None:
    assert remarked(tmp_path, text) == (remark,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[providers.local]",
        "[providers.LOCAL-docker]",
        "[providers.fly]\nregion = 'ams'",  # of another host that reads the same file
        "[machines.box]\nprovider = 'docker'",
        "[machines.box]\nnetwork = 'none'",
        "[plugins]\ndisable = ['gitmachine-core', 'guard', 'noisy-plugin']",
    ],
)
def test_a_name_that_is_right_or_far_off_is_not(tmp_path: Path, text: str) -> None:
    assert remarked(tmp_path, text) == ()


def test_check_doctor_and_run_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], gitmachine_home: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitmachine.toml").write_text("[providers.locl]\nnetwork = 'none'")
    remark = "no provider 'locl' is installed @ providers.locl: did you mean 'local'?"
    assert main(["config", "check"]) == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == (f"ok: {tmp_path}/gitmachine.toml\n", f"gitmachine: {remark}\n")
    assert main(["doctor", "local", "--json"]) == 1
    assert remark in [check["detail"] for check in json.loads(capfd.readouterr().out)["checks"]]
    assert main(["run", "-r", "nosuch.git", "--", "true"]) == 125
    assert capfd.readouterr().err.startswith(f"gitmachine: {remark}\n")
