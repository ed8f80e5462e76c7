"""The core's own plugin, with real git and real credential helpers.

Time budget: 15 s.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gitmachine.git.model import Change, Changes
from gitmachine.plugins import builtin
from gitmachine.plugins.builtin import gitmachine_commit_message, gitmachine_git_credentials


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a credential helper into a git configuration of the test's own; returns where it writes its input."""

    def install(script):
        path = tmp_path / "helper"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        config = tmp_path / "gitconfig"
        config.write_text(f"[credential]\n\thelper = {path}\n\tuseHttpPath = true\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        return tmp_path

    return install


ANSWER = 'cat > "$(dirname "$0")/asked"; echo username=ada; echo "password=s3 cr=t"'


def test_the_hosts_helper_is_asked_with_the_url_and_its_answer_used(helper):
    folder = helper(ANSWER)
    credential = gitmachine_git_credentials("https://git.example.org:8443/a%20b/c.git")
    assert (credential.username, credential.password) == ("ada", "s3 cr=t")
    asked = dict(line.split("=", 1) for line in (folder / "asked").read_text().splitlines() if "=" in line)
    assert (asked["protocol"], asked["host"], asked["path"]) == ("https", "git.example.org:8443", "a b/c.git")


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "echo username=ada", "echo nonsense"])
def test_a_helper_that_knows_nothing_is_a_pass_without_a_prompt(helper, script):
    helper(script)
    assert gitmachine_git_credentials("https://git.example.org/x.git") is None


@pytest.mark.parametrize(
    "repository",
    [
        "git@example.org:x.git",
        "ssh://git@example.org/x.git",
        "file:///srv/x.git",
        "/srv/x.git",
        "https://",
        "https://[bad/x",
        "https://host:port/x",
        "https://evil%0apath/x%0ahost=good",
        "https://host/x%0Ahost=other",
        "https://host/x%00",
        "",
    ],
)
def test_what_has_no_credential_or_could_smuggle_a_line_is_not_asked_for(helper, repository):
    folder = helper(ANSWER)
    assert gitmachine_git_credentials(repository) is None or "%0a" in repository.partition("/x")[0]
    asked = (folder / "asked").read_text() if (folder / "asked").exists() else ""
    assert "host=other" not in asked
    assert "host=good" not in asked


def test_an_ipv6_host_keeps_its_brackets(helper):
    folder = helper(ANSWER)
    assert gitmachine_git_credentials("http://[::1]:8080/x.git") is not None
    assert "host=[::1]:8080" in (folder / "asked").read_text()


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.requires("linux")
def test_a_helper_that_hangs_is_killed_with_its_children(helper, monkeypatch):
    folder = helper('echo $$ > "$(dirname "$0")/pid"; sleep 600')
    monkeypatch.setattr(builtin, "CREDENTIAL_SECONDS", 5.0)
    assert gitmachine_git_credentials("https://git.example.org/x.git") is None
    pid = int((folder / "pid").read_text())
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)


def test_an_askpass_program_and_the_callers_repository_are_left_out(helper, tmp_path, monkeypatch):
    helper("exit 0")
    touched = tmp_path / "touched"
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\ntouch '{touched}'\necho guess\n")
    askpass.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(askpass))
    monkeypatch.setenv("SSH_ASKPASS", str(askpass))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert gitmachine_git_credentials("https://git.example.org/x.git") is None
    assert not touched.exists()


def test_without_git_there_is_no_answer(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert gitmachine_git_credentials("https://git.example.org/x.git") is None


def changes(*files):
    return Changes(files=tuple(Change(status, path) for status, path in files))


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        ([("A", "a.py")], "explicit", "Add a.py"),
        ([("M", "a.py"), ("T", "b.py")], "explicit", "Update a.py and b.py"),
        ([("D", "a"), ("D", "b"), ("D", "c")], "stop", "auto: delete a, b and c"),
        ([("A", "a"), ("M", "b")], "pause", "auto: add 1 file, update 1"),
        ([("A", str(n)) for n in range(12)] + [("D", "x")], "explicit", "Add 12 files, delete 1"),
        ([("A", "line\nbreak\x1b[31m")], "explicit", "Add line?break?[31m"),
    ],
)
def test_a_summary_is_made_when_asked_for(monkeypatch, files, reason, message):
    monkeypatch.setenv("GITMACHINE_COMMIT_SUMMARY", "1")
    assert gitmachine_commit_message(changes(*files), reason) == message


def test_a_summary_of_a_long_path_stays_short(monkeypatch):
    monkeypatch.setenv("GITMACHINE_COMMIT_SUMMARY", "yes")
    message = gitmachine_commit_message(changes(("A", "d/" * 500 + "end.py")), "explicit")
    assert len(message) < 72
    assert message.endswith("end.py")


def test_by_default_the_core_has_no_message_of_its_own(monkeypatch):
    assert gitmachine_commit_message(changes(("A", "a")), "stop") is None
    monkeypatch.setenv("GITMACHINE_COMMIT_SUMMARY", "0")
    assert gitmachine_commit_message(changes(("A", "a")), "stop") is None
    monkeypatch.setenv("GITMACHINE_COMMIT_SUMMARY", "1")
    assert gitmachine_commit_message(changes(), "stop") is None
