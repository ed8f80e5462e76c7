"""Plugins as users meet them on the command line: commands, vetoes, mistakes, and what the guard withheld.

Time budget: 60 s.
"""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repos import git, show

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[..., dict[str, str]]
pytestmark = pytest.mark.requires("sandbox")
BODY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt"
WRITE_KEY = f"echo '-----BEGIN PRIVATE' 'KEY-----' | tr -s ' ' >key; echo {BODY} >>key; echo fine >fine"


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install distributions that are one module each; returns the environment in which they are found."""
    site = tmp_path / "site"
    site.mkdir()

    def put(**modules: str) -> dict[str, str]:
        for name, source in modules.items():
            (site / f"{name}.py").write_text(textwrap.dedent(source))
            info = site / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[gitmachine]\n{name} = {name}\n")
        return {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    return put


COMMANDS = """
    import click
    from gitmachine import ConfigError, hookimpl

    @hookimpl
    def gitmachine_register_commands(cli):
        @click.command()
        @click.argument("name", default="you")
        def greet(name):
            "Say hello to NAME."
            click.echo(f"hello, {name}")

        @click.command()
        def crash():
            raise KeyError("nothing there")

        @click.command()
        def refuse():
            raise ConfigError("not like this")

        @click.command()
        def run():
            raise SystemExit("never")

        for command in (greet, crash, refuse, run):
            cli.add_command(command)
"""


def test_commands_of_plugins_are_listed_and_run(gitmachine: Run, install: Install) -> None:
    env = install(greeter=COMMANDS, broken="@hookimpl\ndef gitmachine_register_commands(cli):\n    pass\n")
    listed = gitmachine("--help", env=env)
    assert "  greet " in listed.stdout
    assert "Say hello to NAME." in listed.stdout
    assert "plugin 'greeter' (greeter 1.0) may not replace the built-in command 'run'" in listed.stderr
    done = gitmachine("greet", "Ada", env=env)
    assert (done.returncode, done.stdout) == (0, "hello, Ada\n")
    assert gitmachine("greet", "--help", env=env).stdout.startswith("Usage: gitmachine greet")
    wrong = gitmachine("gret", env=env)
    assert (wrong.returncode, wrong.stderr.splitlines()[-1]) == (
        2,
        "gitmachine: no command 'gret': did you mean 'greet'? (see: gitmachine --help)",
    )


def test_what_a_plugins_command_raises_is_told_as_the_plugins(gitmachine: Run, install: Install) -> None:
    env = install(greeter=COMMANDS)
    crashed = gitmachine("crash", env=env)
    assert crashed.returncode == 1
    assert "the command 'crash' of plugin 'greeter' (greeter 1.0) failed: KeyError" in crashed.stderr
    refused = gitmachine("refuse", env=env)
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, "gitmachine: not like this")


def test_one_plugin_that_fails_to_add_commands_hides_no_other(gitmachine: Run, install: Install) -> None:
    fails = """
        from gitmachine import hookimpl

        @hookimpl
        def gitmachine_register_commands(cli):
            raise OSError("no such file")
    """
    env = install(greeter=COMMANDS, fails=fails, second=COMMANDS.replace("hello", "hi"))
    done = gitmachine("greet", env=env)
    assert (done.returncode, done.stdout) == (0, "hi, you\n")
    assert "the commands of plugin 'fails' (fails 1.0) cannot be had: OSError: no such file" in done.stderr
    assert "adds the command 'greet', which plugin 'second' (second 1.0) has added already" in done.stderr


def test_completion_knows_the_commands_of_plugins(gitmachine: Run, install: Install) -> None:
    env = install(greeter=COMMANDS)
    env |= {"_GITMACHINE_COMPLETE": "bash_complete", "COMP_WORDS": "gitmachine gre", "COMP_CWORD": "1"}
    done = gitmachine(env=env)
    assert (done.stdout, done.stderr) == ("plain,greet\n", "")


POLICY = """
    from gitmachine import {error}, hookimpl

    @hookimpl
    def {hook}():
        raise {error}("{message}")
"""


@pytest.mark.parametrize(
    ("hook", "error", "code"),
    [
        ("gitmachine_before_command", "CommandVetoed", 125),
        ("gitmachine_before_commit", "CommitRejected", 123),
        ("gitmachine_before_push", "PushVetoed", 123),
        ("gitmachine_setup", "CommandVetoed", 125),
        ("gitmachine_teardown", "CommandVetoed", 125),
    ],
)
def test_a_veto_is_told_with_its_message_and_has_its_exit_code(
    gitmachine: Run, install: Install, remote: Path, hook: str, error: str, code: int
) -> None:
    message = f"not here, says the {error}"
    env = install(vetoes=POLICY.format(hook=hook, error=error, message=message))
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--json", "--", "sh", "-c", "echo 1 >made", env=env)
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (code, code)
    assert message in document["error"]
    assert message in done.stderr
    if hook == "gitmachine_teardown":
        assert document["pushed"]
        assert not document["machine_kept"]
        assert show(remote, "feat:made") == "1"


def test_a_veto_of_exec_is_told_too(gitmachine: Run, install: Install, remote: Path) -> None:
    veto = POLICY.format(hook="gitmachine_before_command", error="CommandVetoed", message="no")
    assert gitmachine("start", "-r", str(remote), "--name", "m").returncode == 0
    done = gitmachine("exec", "m", "--", "true", env=install(vetoes=veto))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (125, "gitmachine: no")
    assert gitmachine("stop", "m").returncode == 0


def test_an_observer_that_raises_stops_no_run_and_is_reported(gitmachine: Run, install: Install, remote: Path) -> None:
    observer = """
        from gitmachine import hookimpl

        @hookimpl
        def gitmachine_git_pushed(event):
            raise OSError("the disk is full")
    """
    done = gitmachine(
        "run", "-r", str(remote), "-s", "feat", "--json", "--", "touch", "made", env=install(observer=observer)
    )
    document = json.loads(done.stdout)
    assert (done.returncode, document["pushed"]) == (0, True)
    (failure,) = document["hook_failures"]
    assert (failure["plugin"], failure["hook"]) == ("observer", "gitmachine_git_pushed")
    assert "observer failed in gitmachine_git_pushed: OSError: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_guard_withheld_is_told_and_given_back_by_one_command(
    gitmachine: Run, remote: Path, tmp_path: Path
) -> None:
    done = gitmachine("run", "-r", str(remote), "-s", "feat", "--", "sh", "-c", WRITE_KEY)
    assert done.returncode == 0
    assert "left out: key: it seems to hold a private key" in done.stderr
    way_back = done.stderr.splitlines()[-1].rpartition(": ")[2].split()
    assert way_back[:3] == ["gitmachine", "withheld", "restore"]
    assert "key" not in git("-C", remote, "ls-tree", "-r", "--name-only", "feat").splitlines()
    listed = gitmachine("withheld").stdout
    assert "it seems to hold a private key" in listed
    restored = gitmachine(*way_back[1:], str(tmp_path / "out"))
    assert (restored.returncode, restored.stdout) == (0, f"{tmp_path}/out/key\n")
    assert (tmp_path / "out" / "key").read_text().endswith(f"{BODY}\n")
    again = gitmachine("withheld", "restore", "feat", str(tmp_path / "out"), "--json")
    assert again.returncode == 1
    assert "exists already" in json.loads(again.stdout)["restored"][0]["problem"]
    assert gitmachine("withheld", "restore", "nobody").returncode == 1
    assert gitmachine("withheld", "drop", "feat").returncode == 0
    assert json.loads(gitmachine("withheld", "--json").stdout) == {"withheld": []}


def test_the_receipt_of_a_run_says_what_was_withheld_and_the_configuration_what_is_not(
    gitmachine: Run, remote: Path, tmp_path: Path
) -> None:
    run = ["run", "-r", str(remote), "-s", "feat", "--json", "--", "sh", "-c", WRITE_KEY]
    document = json.loads(gitmachine(*run).stdout)
    assert [file["path"] for file in document["withheld"]] == ["key"]
    assert [file["path"] for file in document["receipt"]["withheld"]] == ["key"]
    (tmp_path / "gitmachine.toml").write_text('[guard]\nallow = ["key"]\n')
    document = json.loads(gitmachine(*run).stdout)
    assert document["withheld"] == []
    assert "PRIVATE" in show(remote, "feat:key")
