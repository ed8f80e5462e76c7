"""One command, from a repository to a pushed branch, whichever way it ends. Time budget: 60 s."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.gitserver import serving
from support.repos import add_commit, git, show, tip

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.requires("sandbox")

OTHER = """
import attrs
from gitmachine import hookimpl
from gitmachine_local import plugin


@hookimpl
def gitmachine_register_providers():
    return [attrs.evolve(spec, name=name) for spec in plugin.gitmachine_register_providers() for name in ("one", "two")]
"""


@pytest.fixture
def providers(tmp_path: Path) -> dict[str, str]:
    """Install a distribution that offers the local provider as ``one`` and ``two``; return what finds it."""
    info = tmp_path / "site" / "other_providers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-providers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gitmachine]\nother = other_providers\n")
    (tmp_path / "site" / "other_providers.py").write_text(OTHER)
    return {"PYTHONPATH": str(tmp_path / "site")}


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def no_traceback(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1] if done.stderr else ""


def test_the_work_arrives_as_a_commit_and_the_next_run_goes_on_from_there(
    gitmachine: Run, remote: Path, home: Any
) -> None:
    done = gitmachine("run", "-p", "local", "-r", str(remote), "-s", "feat", "--", "sh", "-c", "echo hi > new.txt")
    assert (done.returncode, done.stdout) == (0, "")
    assert show(remote, "feat:new.txt") == "hi"
    assert git("-C", remote, "rev-parse", "feat^") == tip(remote, "main")
    assert f"the remote has feat at {tip(remote, 'feat')[:10]}" in no_traceback(done)
    first = tip(remote, "feat")
    again = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "sh", "-c", "cat new.txt; echo ho >> new.txt")
    assert (again.returncode, again.stdout) == (0, "hi\n")
    assert git("-C", remote, "rev-parse", "feat^") == first
    assert home.machines() == []


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("exit 123", 123)])
def test_the_commands_code_is_ours_and_its_work_is_published(
    gitmachine: Run, remote: Path, script: str, code: int
) -> None:
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "sh", "-c", f"echo x > x; {script}")
    assert done.returncode == code
    assert show(remote, "feat:x") == "x"
    assert no_traceback(done) == f"gitmachine: the command exited with {code}"


def test_one_document_with_everything(gitmachine: Run, remote: Path) -> None:
    script = "echo out; echo err >&2; printf '\\377'; echo x > x; exit 7"
    done = gitmachine("run", "-r", f"file://{remote}", "-s", "feat", "--json", "--", "sh", "-c", script)
    assert done.returncode == 7
    found = document(done)
    assert (found["exit_code"], found["status"]) == (7, 7)
    assert (found["stdout"], found["stderr"]) == ("out\n\ufffd", "err\n")
    assert found["branch"] == "feat"
    assert found["local_sha"] == found["remote_sha"] == tip(remote, "feat")
    assert found["pushed"] is True
    assert (found["timed_out"], found["error"], found["provider"]) == (False, None, "local")
    assert found["receipt"]["published"] == ["refs/heads/feat"]
    assert done.stderr == "gitmachine: the command exited with 7\n"


def test_a_stream_of_a_document_goes_to_standard_error(gitmachine: Run, remote: Path) -> None:
    args = ("--json", "--stream", "--", "sh", "-c", "echo out; echo err >&2")
    done = gitmachine("run", "-r", str(remote), "-s", "feat", *args)
    assert document(done)["stdout"] == "out\n"
    assert {"out", "err"} <= set(done.stderr.splitlines())
    assert "starting a machine" in done.stderr


def test_output_passes_byte_for_byte(gitmachine: Run, remote: Path) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 4096); os.write(2, b'\\xff\\x00only-here')"
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "python3", "-c", script, text=False)
    assert done.returncode == 0
    assert done.stdout == bytes(range(256)) * 4096  # type: ignore[comparison-overlap]  # bytes without text
    assert b"\xff\x00only-here" in done.stderr  # type: ignore[operator]


def test_no_shell_reads_the_command(gitmachine: Run, remote: Path) -> None:
    words = ["$HOME", "`id`", "a b", "-n", "", "'", '"', "*", "--", "é\n"]
    script = "import sys; print(sys.argv[1:])"
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "python3", "-c", script, *words)
    assert done.stdout == f"{words}\n"


def test_variables_reach_the_command_as_they_are(gitmachine: Run, remote: Path) -> None:
    args = ("-e", "A=${X} $Y 'q'\n=", "-e", "FROM_HERE", "-e", "EMPTY=")
    script = "import os; print([os.environ.get(n) for n in ('A', 'FROM_HERE', 'EMPTY', 'NOT_GIVEN')])"
    done = gitmachine(
        "run",
        "-r",
        str(remote),
        "-s",
        "f",
        *args,
        "--",
        "python3",
        "-c",
        script,
        env={"FROM_HERE": "h", "NOT_GIVEN": "n"},
    )
    assert done.stdout == f"{['${X} $Y ' + chr(39) + 'q' + chr(39) + chr(10) + '=', 'h', '', None]}\n"


def test_a_missing_program_is_127_with_a_hint(gitmachine: Run, remote: Path) -> None:
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "nosuchprogram")
    assert done.returncode == 127
    assert "hint: there is no program 'nosuchprogram' in the machine" in done.stderr
    quoted = gitmachine("run", "-r", str(remote), "-s", "feat", "--json", "--", "echo hi")
    assert document(quoted)["hint"] == "no shell reads the command: for a script write sh -c 'echo hi'"


def test_a_command_that_misses_the_network_gets_a_hint(gitmachine: Run, remote: Path) -> None:
    script = "import socket; socket.getaddrinfo('example.org', 80)"
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "python3", "-c", script)
    assert done.returncode == 1
    assert "hint: this machine has no network" in done.stderr
    assert "network=host" in done.stderr


def test_a_timeout_is_124_and_the_work_is_published(gitmachine: Run, remote: Path) -> None:
    script = "echo partial; echo x > x; exec sleep 600"
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--timeout", "3", "--json", "--", "sh", "-c", script)
    assert done.returncode == 124
    found = document(done)
    assert (found["timed_out"], found["status"], found["pushed"]) == (True, 124, True)
    assert found["stdout"] == "partial\n"
    assert "timeout of 3 s" in found["error"]
    assert show(remote, "feat:x") == "x"


def test_a_rejected_push_is_123_and_loses_nothing(gitmachine: Run, remote: Path, tmp_path: Path, home: Any) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'not on my watch' >&2\nexit 1\n")
    hook.chmod(0o755)
    script = "echo precious > x; exit 7"
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--json", "--", "sh", "-c", script)
    assert done.returncode == 123
    found = document(done)
    assert (found["exit_code"], found["status"], found["pushed"], found["machine_kept"]) == (7, 123, False, True)
    assert no_traceback(done).endswith("; the command exited with 7")
    bundle = found["rescue"]["bundle"]
    assert bundle in no_traceback(done)
    git("clone", "-q", "-b", "feat", bundle, tmp_path / "clone")
    assert (tmp_path / "clone" / "x").read_text() == "precious\n"
    (record,) = home.machines()
    assert record.machine_id == found["machine"]
    held = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "true")
    assert held.returncode == 125
    assert record.key in no_traceback(held) or str(record.machine_id) in no_traceback(held)


def test_a_kept_machine_is_published_and_stays(gitmachine: Run, remote: Path, home: Any) -> None:
    args = ("--keep", "--name", "box", "-o", "network=host", "--json")
    done = gitmachine("run", "-r", str(remote), "-s", "feat", *args, "--", "sh", "-c", "echo x > x; exit 4")
    assert done.returncode == 4
    found = document(done)
    assert (found["pushed"], found["machine_kept"], found["name"]) == (True, True, "box")
    assert found["remote_sha"] == tip(remote, "feat")
    (record,) = home.machines()
    assert (record.name, record.state, record.machine_id) == ("box", "running", found["machine"])
    assert record.options == {"network": "host"}


def test_nobody_reading_our_output_ends_the_command_and_saves_the_work(home: Any, remote: Path, tmp_path: Path) -> None:
    script = (
        '"$1" -m gitmachine run -r "$2" -s feat -- sh -c "echo x > x; yes" 2>err | head -n 1; echo "${PIPESTATUS[0]}"'
    )
    import sys

    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, str(remote)],
        env=home.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "y\n141\n"
    assert show(remote, "feat:x") == "x"
    assert "standard output cannot be written" in (tmp_path / "err").read_text().splitlines()[-1]
    assert home.machines() == []


def test_the_provider_is_chosen_by_name(
    gitmachine: Run, remote: Path, tmp_path: Path, providers: dict[str, str]
) -> None:
    (tmp_path / "gitmachine.toml").write_text(
        f"""
        provider = "one"
        repository = "{remote}"
        session = "${{WANTED:-from-file}}"
        [providers.one]
        network = "host"
        [machines.box]
        provider = "Two"
        """
    )

    def chosen(*args: str, **env: str) -> tuple[str, str]:
        done = gitmachine("run", "--json", *args, "--", "true", env={**providers, **env})
        assert done.returncode == 0, done.stderr
        return document(done)["provider"], document(done)["branch"]

    assert chosen() == ("one", "from-file")
    assert chosen(GITMACHINE_PROVIDER="two", WANTED="wanted") == ("two", "wanted")
    assert chosen("-m", "box", GITMACHINE_PROVIDER="one", GITMACHINE_SESSION="by-env") == ("Two", "by-env")
    assert chosen("-p", "two", "-s", "by-flag", GITMACHINE_SESSION="by-env") == ("two", "by-flag")
    (tmp_path / "gitmachine.toml").unlink()
    assert chosen("-r", str(remote), "-s", "alone", GITMACHINE_PROVIDER="two") == ("two", "alone")


FILE = """
sesion = "x"
timeout = "ten"
token = "${NO_SUCH_TOKEN}"
[git]
transport = "relais"
[providers.local]
network = "on"
"""

BAD = [
    (["-p", "locla"], {}, 2, "unknown provider 'locla'; did you mean 'local'?"),
    (["-m", "nosuch"], {}, 2, "no machine 'nosuch': the configuration has none; add a table [machines.NAME] to it"),
    (["-o", "netwrok=host"], {}, 2, "unknown key @ providers.local.netwrok: did you mean 'network'?"),
    (["-o", "network=on"], {}, 2, "expected one of none, host, not 'on' @ providers.local.network"),
    (["-o", "network"], {}, 2, "expected key=value, not 'network' @ --option"),
    (
        ["-o", "network=${NOT_SET_ANYWHERE}"],
        {},
        2,
        "the variable NOT_SET_ANYWHERE is not set @ --option.network: set it",
    ),
    (["-e", "NOT_SET_ANYWHERE"], {}, 2, "the variable NOT_SET_ANYWHERE is not set @ --env: set it or write"),
    (["-e", "a b=1"], {}, 2, "expected NAME=VALUE or NAME, not 'a b=1' @ --env"),
    (["-s", "a..b"], {}, 2, "invalid session name 'a..b'"),
    (["--timeout", "soon"], {}, 2, "expected a number, not 'soon' @ timeout"),
    (["--timeout", "-1"], {}, 2, "expected more than 0 seconds, not -1 @ timeout"),
    (["--config", "nosuch.toml"], {}, 2, "the configuration file 'nosuch.toml' does not exist"),
    (["--name", "-x"], {}, 2, "invalid machine name '-x'"),
    (["--name", "a:b"], {}, 2, "invalid machine name 'a:b': use printable characters without ':'"),
    ([], {"GITMACHINE_TIMEOUT": "x"}, 2, "expected a number, not 'x' @ GITMACHINE_TIMEOUT"),
    (["-r", "ext::sh -c id"], {}, 2, "invalid repository 'ext::sh -c id'"),
    (["-r", "--upload-pack=id"], {}, 2, "invalid repository '--upload-pack=id'"),
    (["-r", "nosuch.git"], {}, 125, "nosuch.git"),
    (["-r", "file:///nosuch/r.git"], {}, 125, "/nosuch/r.git"),
]


@pytest.mark.parametrize(("args", "env", "code", "message"), BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    gitmachine: Run, remote: Path, home: Any, args: list[str], env: dict[str, str], code: int, message: str
) -> None:
    repository = [] if "-r" in args else ["-r", str(remote)]
    done = gitmachine("run", *repository, *args, "--", "true", env=env)
    assert done.returncode == code, done.stderr
    assert message in no_traceback(done)
    assert done.stdout == ""
    assert home.machines() == []
    assert git("-C", remote, "branch", "--format=%(refname)") == "refs/heads/main"


def test_no_repository_says_how_to_give_one(gitmachine: Run) -> None:
    done = gitmachine("run", "--", "true")
    assert done.returncode == 2
    assert no_traceback(done).startswith("gitmachine: no repository: pass --repository REPO, set GITMACHINE_REPOSITORY")


def test_five_mistakes_in_one_file_are_reported_together(gitmachine: Run, tmp_path: Path, remote: Path) -> None:
    (tmp_path / "gitmachine.toml").write_text(FILE)
    done = gitmachine("run", "-r", str(remote), "--", "true")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"gitmachine: 5 problems in {tmp_path / 'gitmachine.toml'}"
    assert len(done.stderr.splitlines()) == 6
    as_json = gitmachine("run", "-r", str(remote), "--json", "--", "true")
    found = document(as_json)
    assert (as_json.returncode, found["status"], found["exit_code"], found["pushed"]) == (2, 2, None, False)
    assert found["error"].startswith("5 problems")


def test_a_file_that_is_not_toml_stops_before_anything_starts(gitmachine: Run, tmp_path: Path, remote: Path) -> None:
    (tmp_path / "gitmachine.toml").write_text("session = feat\n")
    done = gitmachine("run", "-r", str(remote), "--", "true")
    assert done.returncode == 2
    assert "gitmachine.toml is not valid TOML: invalid value @ line 1, column 11" in no_traceback(done)


@pytest.mark.requires("git-http-backend")
def test_a_wrong_token_is_one_sentence_and_never_shown(
    gitmachine: Run, remote: Path, tmp_path: Path, home: Any
) -> None:
    with serving(tmp_path, token="right") as server:
        args = ("run", "-r", f"{server.url}/remote.git", "-s", "feat")
        done = gitmachine(*args, "--", "true", env={"GITMACHINE_TOKEN": "wr0ng-canary"})
        assert done.returncode == 125
        assert "remote.git" in no_traceback(done)
        assert "wr0ng-canary" not in done.stdout + done.stderr
        good = gitmachine(*args, "--", "sh", "-c", "echo x > x", env={"GITMACHINE_TOKEN": "right"})
        assert good.returncode == 0, good.stderr
    assert show(remote, "feat:x") == "x"
    assert home.machines() == []


def test_a_session_goes_on_from_what_others_pushed(gitmachine: Run, remote: Path) -> None:
    add_commit(remote, "feat", {"theirs": b"theirs\n"}, start=tip(remote, "main"))
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "sh", "-c", "cat theirs; echo mine > mine")
    assert (done.returncode, done.stdout) == (0, "theirs\n")
    assert show(remote, "feat:mine") == "mine"
