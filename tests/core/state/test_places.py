"""Where things are kept, and that nobody else can look into it.

Time budget: 5 s.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from gitmachine.errors import StateError
from gitmachine.state.places import MAX_RUNTIME_BYTES, Places, make_private


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_one_variable_relocates_everything(tmp_path):
    places = Places.default({"GITMACHINE_HOME": str(tmp_path)})
    assert places.journal == tmp_path / "state" / "journal.db"
    assert places.sessions == tmp_path / "state" / "sessions"
    assert places.bundles == tmp_path / "state" / "rescue"
    assert places.machine_dir("k") == tmp_path / "state" / "machines" / "k"
    assert places.machine_lock("k") == tmp_path / "state" / "locks" / "k.lock"
    assert places.mirrors == tmp_path / "cache" / "mirror"
    assert places.config == tmp_path / "config"
    assert not (tmp_path / "state").exists()


def test_the_environment_is_the_default(gitmachine_home):
    assert Places.default().state == gitmachine_home / "state"


def test_a_relative_home_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Places.default({"GITMACHINE_HOME": "here"}).state == tmp_path / "here" / "state"


def test_without_the_variable_the_platforms_folders_are_used():
    places = Places.default({})
    for folder in (places.state, places.cache, places.config, places.runtime):
        assert folder.is_absolute()
        assert "gitmachine" in str(folder)


def test_folders_are_made_on_first_use_and_closed_to_others(tmp_path):
    os.umask(os.umask(0o022))
    places = Places.default({"GITMACHINE_HOME": str(tmp_path / "home")}).ensure()
    for folder in (tmp_path / "home", places.state, places.cache, places.runtime):
        assert mode(folder) == 0o700
    assert not places.config.exists()
    assert places.ensure() is places


def test_an_open_folder_of_ours_is_closed(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    assert mode(make_private(folder)) == 0o700


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match=r"cannot make the folder .*state.*GITMACHINE_HOME"):
        Places.default({"GITMACHINE_HOME": str(tmp_path)}).ensure()


def test_the_runtime_folder_is_short_however_long_the_home(tmp_path):
    long = tmp_path / ("x" * 80)
    first = Places.default({"GITMACHINE_HOME": str(long)}).runtime
    other = Places.default({"GITMACHINE_HOME": str(long) + "y"}).runtime
    assert len(os.fsencode(first)) <= MAX_RUNTIME_BYTES
    assert first != other
    assert first == Places.default({"GITMACHINE_HOME": str(long)}).runtime


def test_a_long_temporary_folder_is_not_used_for_sockets(tmp_path):
    environ = {"GITMACHINE_HOME": str(tmp_path / ("x" * 80)), "TMPDIR": str(tmp_path / ("t" * 80))}
    assert len(os.fsencode(Places.default(environ).runtime)) <= MAX_RUNTIME_BYTES


def test_the_users_runtime_folder_is_used_only_when_it_is_private(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir(mode=0o700)
    folder.chmod(0o700)
    short = len(os.fsencode(folder)) + len("/gitmachine") <= MAX_RUNTIME_BYTES
    found = Places.default({"XDG_RUNTIME_DIR": str(folder)}).runtime
    assert (found == folder / "gitmachine") == short
    folder.chmod(0o755)
    assert Places.default({"XDG_RUNTIME_DIR": str(folder)}).runtime.parent != folder
    assert Places.default({"XDG_RUNTIME_DIR": str(tmp_path / "missing")}).runtime.parent != tmp_path / "missing"


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    (tmp_path / "runtime").symlink_to(elsewhere)
    places = Places(
        state=tmp_path / "state", cache=tmp_path / "cache", runtime=tmp_path / "runtime", config=tmp_path / "config"
    )
    with pytest.raises(StateError, match="runtime folder"):
        places.ensure()
    assert mode(elsewhere) == 0o755


@pytest.mark.requires("root")
def test_a_runtime_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    places = Places(state=tmp_path / "state", cache=tmp_path / "cache", runtime=folder, config=tmp_path / "config")
    with pytest.raises(StateError, match="belongs to uid 12345"):
        places.ensure()


def test_asking_for_the_places_warns_about_nothing_where_no_runtime_folder_is_set():
    environ = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    del environ["GITMACHINE_HOME"]
    script = "from gitmachine.state.places import Places; print(Places.default())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
