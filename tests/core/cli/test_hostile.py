"""Hostile values through the real command line: refused in one sentence, or carried exactly; never run.

Time budget: 45 s. What is refused is refused in this process; what is carried shares a few runs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from support.repos import git, show, tip

Run = Callable[..., "subprocess.CompletedProcess[str]"]

INJECTIONS = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY",
    "& touch CANARY &",
    "| touch CANARY",
    "\n touch CANARY\n",
    "' ; touch CANARY ; '",
    '" ; touch CANARY ; "',
    "'$(touch CANARY)'",
    "\\$(touch CANARY)",
    "${IFS}touch${IFS}CANARY",
    "%0atouch CANARY",
    "--upload-pack=touch CANARY",
    "-c core.sshCommand=touch CANARY",
    "--exec=touch CANARY",
    "> CANARY",
    "${CANARY",
    "\x1b]0;touch CANARY\x07",
    "\udcff\udcfe touch CANARY",
    "x" * 5000 + " touch CANARY",
]

REFUSED_SESSIONS = [
    *(value for value in INJECTIONS if not value.startswith("${")),  # git allows those: below
    "HEAD",
    "FETCH_HEAD",
    "@",
    "",
    " ",
    "refs/heads/x",
    "a..b",
    "a//b",
    "/a",
    "a/",
    "a.lock",
    "a/.b",
    "a.",
    "a@{1}",
    "a\\b",
    "a\tb",
    "a\x7fb",
    "a^",
    "a~1",
    "a:b",
    "a?b",
    "a*b",
    "a[b",
    "x" * 256,
    "é" * 128,
    "\u2028",
    "0" * 40,
    "a\x00b".replace("\x00", "\x01"),
]

REFUSED_REPOSITORIES = [
    "ext::sh -c touch% CANARY",
    "ext::sh",
    "fd::17",
    "foo::bar",
    "--upload-pack=touch CANARY",
    "-u",
    "-oProxyCommand=touch CANARY",
    "ssh://-oProxyCommand=touch CANARY/x",
    "ssh://-oProxyCommand=touch%20CANARY/x",
    "ssh://u@-oProxyCommand=x/y",
    "git@-oProxyCommand=touch CANARY:y",
    "-git@h:y",
    "https://-h/x",
    "https:///x",
    "https://h",
    "https://h:0/x",
    "https://h:x/y",
    "https://h/a b",
    "https://h/$(touch CANARY) x",
    "https://us er@h/\n",
    "https://h/\x00".replace("\x00", "\x02"),
    "ssh://u:p@h/x",
    "ssh://h/-x",
    "h:-x",
    "gopher://h/x",
    "file://other/x",
    "",
    " ",
    "a\nb",
    "\udcff",
    "\x1b[2J",
]

MISSING_REPOSITORIES = [
    "./$(touch CANARY)",
    "./`touch CANARY`",
    "./; touch CANARY",
    "./'\"",
    "file:///nosuch/$(touch CANARY)",
    "file:///nosuch/%24(touch%20CANARY)",
    "./x" + "y" * 200,
    "./--upload-pack=touch CANARY",
]

REFUSED = [
    *[("-s", value) for value in REFUSED_SESSIONS],
    *[("-r", value) for value in REFUSED_REPOSITORIES],
    *[("-p", value) for value in [*INJECTIONS, "../../x", "os:system"]],
    *[("-m", value) for value in INJECTIONS[:8]],
    *[("-o", value) for value in [*INJECTIONS[:12], "network=$(touch CANARY)", "__class__=x", "a.b.c=1"]],
    *[("-e", value) for value in [*(f"{value}=1" for value in INJECTIONS[:12]), "=x", "a-b=1", "LD PRELOAD=x"]],
    *[("--timeout", value) for value in ["$(touch CANARY)", "1e999", "nan", "-inf", "0", "1;touch CANARY"]],
    *[("--name", value) for value in ["", "-x", "\n", "\x1b[2J", "--help"]],
    *[("--config", value) for value in INJECTIONS[:8]],
]

CARRIED_SESSIONS = [
    "$(touch-CANARY)",
    "`touch-CANARY`",
    "a;touch-CANARY",
    "a&touch-CANARY",
    "a|touch-CANARY",
    "'a'",
    '"a"',
    "${IFS}touch${IFS}CANARY",
    "${CANARY",
    "héé/日本",
    "a--upload-pack=x",
    "a>CANARY",
    "!a#b%c",
]

FILE_NAMES = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY",
    "'",
    '"',
    "\\",
    "\\n",
    "new\nline",
    "tab\t",
    " ",
    "-rf",
    "--",
    "--help",
    "-c core.pager=touch CANARY",
    "*",
    "?",
    "[a]",
    "~",
    "#x",
    "!x",
    ":(exclude)x",
    "@{u}",
    "HEAD",
    "refs",
    "a..b",
    "é",
    "日本",
    "\u202egnp.exe",
    "\x1b[2J",
    "\x7f",
    "\x01",
    "\udcff\udcfe",
    "x" * 255,
    "%s%n",
    "${HOME}",
    "{{x}}",
    "con",
    "a => b",
]


def test_there_are_as_many_as_promised() -> None:
    carried = len(CARRIED_SESSIONS) + len(FILE_NAMES) + 3 * len(INJECTIONS)
    assert len(REFUSED) + len(MISSING_REPOSITORIES) + carried >= 200


@pytest.fixture(autouse=True)
def no_canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a value says is ever run, here or in the repository."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [path for path in tmp_path.rglob("*") if path.name == "CANARY"] == []


@pytest.mark.parametrize(("option", "value"), REFUSED)
def test_a_hostile_value_is_refused_before_anything_starts(
    capfd: pytest.CaptureFixture[str], home: Any, option: str, value: str
) -> None:
    repository = [] if option == "-r" else ["-r", "/nosuch/repository.git"]
    assert main(["run", *repository, option, value, "--", "true"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "internal error" not in captured.err
    assert all(character.isprintable() for line in captured.err.splitlines() for character in line)
    assert captured.err.startswith("gitmachine: ")
    assert not home.path.joinpath("state", "journal.db").exists()


@pytest.mark.parametrize("value", MISSING_REPOSITORIES)
def test_a_hostile_path_is_only_a_path(capfd: pytest.CaptureFixture[str], home: Any, value: str) -> None:
    assert main(["run", "-r", value, "--", "true"]) == 125
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    assert "internal error" not in captured.err
    assert home.machines() == []


@pytest.mark.requires("sandbox")
def test_a_hostile_branch_name_that_git_allows_is_a_branch(gitmachine: Run, remote: Path) -> None:
    def run(session: str) -> subprocess.CompletedProcess[str]:
        return gitmachine("run", "-r", str(remote), "-s", session, "--json", "--", "sh", "-c", "echo hi > new.txt")

    with ThreadPoolExecutor(2) as pool:
        for session, done in zip(CARRIED_SESSIONS, pool.map(run, CARRIED_SESSIONS), strict=True):
            assert done.returncode == 0, (session, done.stderr)
            assert json.loads(done.stdout)["branch"] == session
            assert show(remote, f"{tip(remote, session)}:new.txt") == "hi"
    branches = git("-C", remote, "for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    assert branches == sorted(["refs/heads/main", *(f"refs/heads/{session}" for session in CARRIED_SESSIONS)])


@pytest.mark.requires("sandbox")
def test_hostile_variables_and_arguments_arrive_exactly(gitmachine: Run, remote: Path) -> None:
    pairs = {f"V{number}": value for number, value in enumerate(INJECTIONS)}
    options = [part for name, value in pairs.items() for part in ("-e", f"{name}={value}")]
    script = (
        "import json, os, sys\n"
        f"print(json.dumps([[os.environ[f'V{{i}}'] for i in range({len(pairs)})], sys.argv[1:], sys.argv[0]]))"
    )
    done = gitmachine("run", "-r", str(remote), "-s", "f", *options, "--", "python3", "-c", script, *INJECTIONS)
    assert done.returncode == 0, done.stderr
    variables, arguments, _program = json.loads(done.stdout)
    assert variables == INJECTIONS
    assert arguments == INJECTIONS


@pytest.mark.requires("sandbox")
def test_hostile_file_names_are_committed_as_they_are(gitmachine: Run, remote: Path) -> None:
    names = "\n".join(name.encode("utf-8", "surrogateescape").hex() for name in FILE_NAMES)
    script = "import sys\nfor name in sys.argv[1].split(): open(bytes.fromhex(name), 'wb').write(name.encode())"
    done = gitmachine("run", "-r", str(remote), "-s", "files", "--", "python3", "-c", script, names)
    assert done.returncode == 0, done.stderr
    listing = subprocess.run(
        ["git", "-C", remote, "diff-tree", "-r", "-z", "--name-status", "--no-renames", "main", "files"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout.split(b"\0")
    assert set(listing[0:-1:2]) == {b"A"}
    assert sorted(listing[1::2]) == sorted(name.encode("utf-8", "surrogateescape") for name in FILE_NAMES)


@pytest.mark.requires("sandbox")
def test_a_hostile_identity_is_the_author_or_refused(gitmachine: Run, remote: Path) -> None:
    names = [value for value in INJECTIONS if value.isprintable() and ">" not in value and len(value) < 1000]
    refused = [value for value in INJECTIONS if value not in names and "\udcff" not in value and len(value) < 1000]
    carried = " ".join(names)
    env: dict[str, str | None] = {"GITMACHINE_IDENTITY_NAME": carried, "GITMACHINE_IDENTITY_EMAIL": "a'$(touch CANARY)"}
    done = gitmachine("run", "-r", str(remote), "-s", "who", "--", "sh", "-c", "echo x > x", env=env)
    assert done.returncode == 0, done.stderr
    author = git("-C", remote, "log", "-1", "--format=%an|%ae|%cn", "who")
    # Git itself takes punctuation off both ends of a name (ident.c: crud).
    crud = " .,:;<>\"\\'\n"
    assert author == f"{carried.strip(crud)}|{'a' + chr(39) + '$(touch CANARY)'}|{carried.strip(crud)}"
    for value in refused:
        if "\n" in value or ">" in value:
            wrong = gitmachine("run", "-r", str(remote), "--", "true", env={"GITMACHINE_IDENTITY_NAME": value})
            assert wrong.returncode == 2, value
            assert "invalid identity name" in wrong.stderr
