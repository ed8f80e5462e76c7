"""What strangers write: installed as wheels next to each other, chosen by name, broken without harm, removed again.

One clean environment for all of it; the tests of one class build on each other, in order. Works without a network.
Time budget: 75 s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from support.environments import CleanEnvironment, build_wheels, required_by
from support.repos import git, make_remote

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "plugins" / "distributions"

BAD = {
    "import-error": ("0.1", "RuntimeError: this plugin was made for another planet"),
    "missing-dependency": ("0.2", "No module named 'no_such_dependency_anywhere'"),
    "unknown-hook": ("0.3", "did you mean gitmachine_commit_message?"),
    "wrong-arguments": ("0.4", "'weather'"),
    "wrapper": ("0.5", "is a hook wrapper, which GitMachine does not call"),
    "duplicate": ("0.6", "sample-paper 2.1"),
    "raising": ("0.8", "raised in gitmachine_register_providers"),
}
"""Each bad sample that cannot be used: its version, and a part of the cause that is told."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    projects = [
        ROOT / "core" / "pyproject.toml",
        *ROOT.glob("providers/*/pyproject.toml"),
        *ROOT.glob("plugins/*/pyproject.toml"),
        *SAMPLES.glob("*/pyproject.toml"),
    ]
    return build_wheels([project.parent for project in projects], tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    """Return an environment with the core, and with what building and testing a package takes."""
    place = tmp_path_factory.mktemp("clean")
    home = tmp_path_factory.mktemp("home")
    made = CleanEnvironment(place / "venv", *required_by("gitmachine-core"), "pytest", "hatchling", home=home)
    made.install(wheels["gitmachine-core"])
    return made


@pytest.fixture(scope="module")
def local(environment: CleanEnvironment, wheels: dict[str, Path]) -> str:
    """Install the local provider."""
    environment.install(wheels["gitmachine-local"])
    return "local"


@pytest.fixture(scope="module")
def report(environment: CleanEnvironment, wheels: dict[str, Path], local: str) -> dict[str, dict]:
    """Install all bad samples, and return what is said of each plugin."""
    environment.install(*(wheels[f"sample-{name}"] for name in [*BAD, "slow", "paper"]))
    found = listed(environment, "plugins")
    assert local in found
    return found


@pytest.fixture(scope="module")
def place(environment: CleanEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a new provider and a new plugin, and install them as their authors would."""
    place = tmp_path_factory.mktemp("authors")
    environment.run("gitmachine", "new-provider", "fly", "./fly", cwd=place)
    environment.run("gitmachine", "new-plugin", "my-notes", cwd=place)
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    environment.pip("install", *offline, place / "fly", place / "gitmachine-my-notes")
    return place


def listed(environment: CleanEnvironment, what: str, **variables: str) -> dict[str, dict]:
    document = json.loads(environment.run("gitmachine", what, "--json", **variables).stdout)
    return {item["name"]: item for item in document[what]}


def work(environment: CleanEnvironment, folder: Path, provider: str, *options: str, **variables: str) -> dict:
    """Run a command on a new repository and return the document; checks that the work arrived."""
    remote = folder / f"{provider}.git"
    make_remote(remote, commits=2)
    arguments = ["run", "-p", provider, "-r", remote, "-s", "try", "--json", *options]
    done = environment.run("gitmachine", *arguments, "--", "sh", "-c", "echo done > new.txt", **variables)
    assert git("-C", remote, "show", "try:new.txt") == "done"
    return json.loads(done.stdout)


class TestProviders:
    """They come and go with their packages."""

    def test_without_any_the_list_is_empty_and_a_configuration_says_what_to_install(self, environment, tmp_path):
        assert listed(environment, "providers") == {}
        (tmp_path / "gitmachine.toml").write_text('provider = "local"\nrepository = "x.git"\n')
        done = environment.run("gitmachine", "run", "--", "true", cwd=tmp_path, code=2)
        assert "pip install gitmachine-local" in done.stderr

    def test_one_is_installed_and_is_the_only_one(self, environment, local):
        assert list(listed(environment, "providers")) == [local]

    def test_one_of_a_third_party_appears_and_works_without_any_other_step(self, environment, wheels, local, tmp_path):
        environment.install(wheels["sample-paper"])
        found = listed(environment, "providers")
        assert list(found) == [local, "paper"]
        assert (found["paper"]["distribution"], found["paper"]["version"]) == ("sample-paper", "2.1")
        assert work(environment, tmp_path, "paper", "-o", "sheets=3")["provider"] == "paper"
        assert work(environment, tmp_path, "Papier")["pushed"] is True, "by its alias"

    def test_its_options_are_checked_as_everybody_elses(self, environment, tmp_path):
        arguments = ["run", "-p", "paper", "-r", tmp_path / "x.git", "-o", "sheet=3", "--", "true"]
        done = environment.run("gitmachine", *arguments, code=2)
        assert "providers.paper.sheet" in done.stderr
        assert "sheets" in done.stderr

    def test_uninstalled_it_is_gone_and_a_configuration_that_names_it_says_so(self, environment, tmp_path):
        environment.uninstall("sample-paper")
        assert list(listed(environment, "providers")) == ["local"]
        (tmp_path / "gitmachine.toml").write_text(
            'provider = "paper"\nrepository = "x.git"\n[providers.paper]\nsheets = 1'
        )
        done = environment.run("gitmachine", "run", "--", "true", cwd=tmp_path, code=2)
        assert "unknown provider 'paper'" in done.stderr
        assert "by convention called gitmachine-paper" in done.stderr
        assert "installed: local" in done.stderr


class TestBrokenPlugins:
    """They are told by name and harm nobody else."""

    @pytest.mark.parametrize("name", BAD)
    def test_each_is_broken_with_its_package_version_and_cause(self, report, name):
        version, cause = BAD[name]
        found = report[name]
        assert (found["status"], found["distribution"], found["version"]) == ("broken", f"sample-{name}", version)
        assert cause in found["cause"]

    def test_whose_provider_name_was_claimed_is_told_too(self, report):
        assert report["paper"]["status"] == "broken"
        assert "sample-duplicate 0.6" in report["paper"]["cause"]

    def test_one_that_keeps_everybody_waiting_is_broken_too(self, report):
        assert report["slow"]["status"] == "broken"
        assert report["slow"]["seconds"] > 10
        assert "its import took" in report["slow"]["cause"]
        assert report["slow"]["hooks"] == []

    def test_the_others_are_well(self, report):
        assert {name for name, found in report.items() if found["status"] == "ok"} >= {"core", "local"}

    def test_a_run_with_the_local_provider_works(self, environment, report, tmp_path):
        assert report
        result = work(environment, tmp_path, "local", "-o", "isolation=none", GITMACHINE_DISABLE_PLUGINS="slow")
        assert (result["provider"], result["exit_code"], result["pushed"]) == ("local", 0, True)

    def test_a_name_that_two_claim_is_an_error_that_names_both(self, environment, report, tmp_path):
        assert report
        arguments = ["run", "-p", "papier", "-r", tmp_path / "x.git", "--", "true"]
        done = environment.run("gitmachine", *arguments, code=2, GITMACHINE_DISABLE_PLUGINS="slow")
        assert "sample-paper 2.1" in done.stderr
        assert "sample-duplicate 0.6" in done.stderr

    @pytest.mark.parametrize("command", ["plugins", "run"])
    def test_where_loading_is_strict_the_first_is_named(self, environment, report, tmp_path, command):
        assert report
        rest = ["-p", "local", "-r", tmp_path / "x.git", "--", "true"] if command == "run" else []
        variables = {"GITMACHINE_STRICT_PLUGINS": "1", "GITMACHINE_DISABLE_PLUGINS": "slow,duplicate"}
        done = environment.run("gitmachine", command, *rest, code=2, **variables)
        first = min(set(BAD) - {"duplicate", "raising"})
        assert f"{first} (sample-{first} {BAD[first][0]})" in done.stderr
        assert "GITMACHINE_STRICT_PLUGINS" in done.stderr

    def test_uninstalled_they_are_gone(self, environment, report):
        assert report
        environment.uninstall(*(f"sample-{name}" for name in [*BAD, "slow", "paper"]))
        assert {name: found["status"] for name, found in listed(environment, "plugins").items()} == {
            name: "ok" for name in report if name not in {*BAD, "slow", "paper"}
        }


class TestHooks:
    """A plugin that implements every hook is asked for them on the command line."""

    def test_a_run_calls_the_hooks_of_an_installed_plugin(self, environment, wheels, local, tmp_path):
        environment.install(wheels["sample-every-hook"])
        try:
            every = listed(environment, "plugins")["every-hook"]
            log = tmp_path / "calls.jsonl"
            work(environment, tmp_path, local, "-o", "isolation=none", SAMPLE_HOOKS_LOG=str(log))
        finally:
            environment.uninstall("sample-every-hook")
        assert every["status"] == "ok"
        calls = [json.loads(line) for line in log.read_text().splitlines()]
        told = [hook for hook, _kind, _arguments in calls]
        assert set(told) <= set(every["hooks"])
        expected = [f"gitmachine_{name}" for name in ("git_cloned", "machine_started", "command_started")]
        expected += [f"gitmachine_{name}" for name in ("command_finished", "commit_message", "git_committed")]
        expected += [f"gitmachine_{name}" for name in ("git_pushed", "machine_stopping", "machine_stopped")]
        assert [hook for hook in told if hook in expected] == expected
        assert {kind for _hook, kind, _arguments in calls} == {"def", "async def"}


class TestScaffold:
    """A new package works as it is, and its own tests notice when it does not."""

    def test_a_new_provider_passes_the_kit(self, environment, place):
        done = environment.run("pytest", "-q", "-p", "no:cacheprovider", cwd=place / "fly")
        assert "fly (TestFly): " in done.stdout
        assert " failed" not in done.stdout

    def test_a_new_provider_is_listed_and_runs_commands(self, environment, place, tmp_path):
        assert place.exists()
        assert listed(environment, "providers")["fly"]["distribution"] == "gitmachine-fly"
        assert work(environment, tmp_path, "fly", "-o", "env.CI=1")["provider"] == "fly"

    def test_a_new_plugin_passes_its_tests_and_is_listed(self, environment, place):
        done = environment.run("pytest", "-q", "-p", "no:cacheprovider", cwd=place / "gitmachine-my-notes")
        assert " failed" not in done.stdout
        assert listed(environment, "plugins")["my-notes"]["status"] == "ok"

    @pytest.mark.parametrize(
        ("method", "broken", "behaviour"),
        [
            ("async def start(", 'raise OSError("no machine to be had")', "life_id"),
            ("async def stop(", "return", "life_states"),
            ("async def spawn(", "request = ExecRequest(argv=['true'])", "exit_codes"),
            ("async def read_file(", "return b''", "file_bytes"),
            ("async def write_file(", "return", "file_bytes"),
            ("async def list_files(", "return []", "file_list"),
        ],
    )
    def test_breaking_a_marked_method_makes_the_kit_fail(self, environment, place, tmp_path, method, broken, behaviour):
        source = place / "fly" / "src" / "gitmachine_fly" / "machine.py"
        text = source.read_text()
        head, _, tail = text.partition(method)
        lines = tail.split("\n")
        marked = next(number for number, line in enumerate(lines) if "# CHANGE" in line)
        assert not any(line.startswith("    async def") for line in lines[:marked]), "the mark is another method's"
        try:
            source.write_text(
                "\n".join([head + method + lines[0], *lines[1:marked], f"        {broken}", *lines[marked:]])
            )
            arguments = ["-q", "-p", "no:cacheprovider", "-k", f"test_{behaviour}", "tests/test_conformance.py"]
            # What a broken machine leaves behind stays in the test's own directory.
            done = environment.run("pytest", *arguments, cwd=place / "fly", code=1, TMPDIR=str(tmp_path))
        finally:
            source.write_text(text)
        assert "1 failed" in done.stdout

    @pytest.mark.parametrize(
        ("old", "new", "test"),
        [
            ("    names = ", '    return "anything"\n    names = ', "names_the_files or many_files"),
            ("    if event.exit_code:", "    if not event.exit_code:", "that_fails_is_logged"),
            ("if TYPE_CHECKING:", "import asyncio\nif TYPE_CHECKING:", "loads_nothing_heavy"),
            (
                "def gitmachine_commit_message(changes: Changes)",
                "def gitmachine_commit_message(files)",
                "hooks_are_valid",
            ),
        ],
    )
    def test_breaking_a_plugin_makes_its_tests_fail(self, environment, place, old, new, test):
        source = place / "gitmachine-my-notes" / "src" / "gitmachine_my_notes" / "plugin.py"
        text = source.read_text()
        assert old in text
        try:
            source.write_text(text.replace(old, new, 1))
            arguments = ["-q", "-p", "no:cacheprovider", "-k", test]
            done = environment.run("pytest", *arguments, cwd=source.parents[2], code=1)
        finally:
            source.write_text(text)
        assert " failed" in done.stdout
        assert " passed" not in done.stdout


def test_the_samples_are_all_tried():
    assert {path.parent.name for path in SAMPLES.glob("*/pyproject.toml")} == {*BAD, "slow", "paper", "every-hook"}
    assert sys.version_info >= (3, 11)
