"""The check of a plugin's package: each thing that can be wrong with one, found and named.

Time budget: 30 s; each check starts an interpreter.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from gitmachine.testing import PluginConformance, check_plugin_package
from gitmachine.testing.kit import ConformanceFailure
from gitmachine.testing.trial.package import CHECKS

GOOD = """
    from gitmachine import GitMachineError, ProviderSpec, hookimpl

    class OursError(GitMachineError):
        pass

    class _Inner(Exception):
        pass

    @hookimpl
    def gitmachine_register_providers():
        return [ProviderSpec(name="mine", factory="mine_machine:make", config="mine_machine:Config")]
"""
MACHINE = """
    import asyncio
    import attrs

    @attrs.frozen
    class Config:
        size: int = 1

    def make(config):
        return None
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution called sample whose plugin has this source."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source=GOOD, *, reference="mine", **modules):
        info = tmp_path / "sample-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gitmachine]\nmine = {reference}\n")
        if "mine/__init__" not in modules:
            modules["mine"] = source
        for name, text in {"mine_machine": MACHINE, **modules}.items():
            (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))

    yield write
    sys.modules.pop("mine", None)


def bad(name="sample", **options):
    return {check.name: check.detail for check in check_plugin_package(name, **options) if not check.ok}


def test_a_good_package_passes_every_check_by_either_name(install):
    install()
    for name in ("sample", "mine", "MINE"):
        found = check_plugin_package(name)
        assert [check.name for check in found] == list(CHECKS)
        assert all(check.ok for check in found), found
    assert found[0].detail == "mine = mine (sample 1.0)"


def test_what_is_not_installed_is_said():
    assert bad("nobody") == {"installed": "no plugin 'nobody' is installed"}


@pytest.mark.parametrize(
    ("source", "reference", "detail"),
    [
        ("import no_such_thing", "mine", "mine: ModuleNotFoundError: No module named 'no_such_thing'"),
        (GOOD, "nowhere.plugin", "nowhere.plugin: ModuleNotFoundError: No module named 'nowhere'"),
        (GOOD, "mine:Plugin", "mine:Plugin: AttributeError: module 'mine' has no attribute 'Plugin'"),
        ("raise SystemExit(3)", "mine", "mine: SystemExit: 3"),
        ("import os; os._exit(9)", "mine", "mine: the interpreter that loaded it failed: exit code 9"),
    ],
)
def test_an_entry_point_that_cannot_be_imported_is_said_and_nothing_else_is_looked_at(
    install, source, reference, detail
):
    install(source, reference=reference)
    assert bad() == {"entry-point": detail}


def test_heavy_imports_are_named_of_the_standard_library_of_others_and_of_its_own(install):
    install(textwrap.dedent(GOOD) + "\nimport sqlite3.dbapi2, theirs, mine_machine, json, attrs\n", theirs="")
    assert bad() == {"light": "importing mine loads asyncio, mine_machine, sqlite3, ssl, theirs"}
    allowed = bad(allowed=["theirs", "asyncio", "sqlite3", "ssl"])
    assert allowed == {"light": "importing mine loads mine_machine"}


def test_a_slow_import_is_said(install, monkeypatch):
    monkeypatch.setattr("gitmachine.testing.trial.package.SLOW_SECONDS", 0.2)
    install(f"import time; time.sleep(0.3)\n{textwrap.dedent(GOOD)}")
    assert bad()["quick"].startswith("importing mine took 0.")


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        (GOOD.replace("gitmachine_register", "gitmachine_registr"), "did you mean gitmachine_register_providers?"),
        (GOOD.replace("providers()", "providers(weather)"), "weather"),
        (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)"), "hook wrapper"),
        ("nothing = 1", "it implements no hook"),
        (GOOD.replace("return [", "return 7 or ["), "expected a list of ProviderSpec, not 7"),
    ],
)
def test_hooks_that_are_not_valid_are_said(install, source, detail):
    install(source)
    assert detail in bad()["hooks"]


@pytest.mark.parametrize(
    ("source", "machine", "detail"),
    [
        (GOOD.replace("mine_machine:make", "mine_machine:maker"), MACHINE, "factory = 'mine_machine:maker'"),
        (GOOD, MACHINE.replace("@attrs.frozen", "@attrs.define"), "mine_machine:Config is not frozen"),
        (GOOD, MACHINE.replace("@attrs.frozen", ""), "is not an attrs class"),
        (GOOD.replace('name="mine"', 'name="local"'), MACHINE, "gitmachine-local 0.1.0 has a provider that answers to"),
        (GOOD.replace('name="mine"', 'name="mine", contract=9'), MACHINE, "contract 9"),
        (GOOD.replace('name="mine"', 'name="mine", doctor="mine:OursError.x"'), MACHINE, "doctor = "),
        (
            GOOD,
            MACHINE.replace("def make(config)", "def make()"),
            "cannot be called with (config): too many positional",
        ),
        (GOOD, MACHINE.replace("def make", "async def make"), "is a coroutine function: make it a plain one"),
        (
            GOOD.replace('name="mine"', 'name="mine", doctor="mine_machine:make"'),
            MACHINE,
            "doctor = 'mine_machine:make' is no coroutine function: make it an async def",
        ),
        (
            GOOD.replace('name="mine"', 'name="mine", connect="mine_machine:make"'),
            MACHINE,
            "connect = 'mine_machine:make' cannot be called with (machine_id, config): too many positional arguments",
        ),
    ],
)
def test_providers_that_lead_nowhere_are_said(install, source, machine, detail):
    install(source, mine_machine=machine)
    assert detail in bad()["providers"]


@pytest.mark.parametrize("name", ["gitmachine-local", "gitmachine-local-docker", "gitmachine-ssh", "gitmachine-e2b"])
def test_the_packages_of_this_project_are_good(name):
    assert bad(name, allowed=()) == {}


def test_public_exceptions_that_are_not_ours_are_said(install):
    install(GOOD.replace("class OursError(GitMachineError)", "class TheirsError(Exception)"))
    assert bad()["errors"] == "mine.TheirsError is no GitMachineError"


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ("from _mine_errors import Inside", {}),
        ("from _mine_errors import Inside\n__all__ = ['Inside']", {"errors": "mine.Inside is no GitMachineError"}),
    ],
)
def test_an_exception_of_a_private_module_is_public_where_it_is_offered(install, more, wrong):
    package = {"mine/__init__": textwrap.dedent(GOOD) + more.replace("_mine_errors", "mine._errors")}
    install(reference="mine", **{"mine/_errors": "class Inside(Exception):\n    pass\n"}, **package)
    assert bad() == wrong


def test_the_class_for_pytest_fails_with_what_is_wrong_and_what_to_do(install):
    install(GOOD.replace("providers()", "providers(weather)"))

    class TestSample(PluginConformance):
        package = "sample"

    tests = [name for name in dir(TestSample) if name.startswith("test_")]
    assert len(tests) == len(CHECKS) + 1
    failed = {}
    for name in tests:
        try:
            getattr(TestSample(), name)()
        except ConformanceFailure as error:
            failed[name] = str(error)
    assert set(failed) == {"test_its_hooks_are_valid", "test_its_hooks_raise_nothing_but_our_errors_in_a_session"}
    assert "weather" in failed["test_its_hooks_are_valid"]
    assert "see docs/hooks.md" in failed["test_its_hooks_are_valid"]


def test_a_hook_that_raises_something_else_in_a_session_fails(install):
    source = f"{textwrap.dedent(GOOD)}\n@hookimpl\ndef gitmachine_command_finished(event): return 1 / event.exit_code\n"
    install(source)

    class TestSample(PluginConformance):
        package = "sample"

    with pytest.raises(ConformanceFailure, match="gitmachine_command_finished: ZeroDivisionError"):
        TestSample().test_its_hooks_raise_nothing_but_our_errors_in_a_session()


def test_without_a_package_the_class_says_so():
    class TestSample(PluginConformance):
        pass

    with pytest.raises(ConformanceFailure, match="TestSample has no package"):
        TestSample().test_its_hooks_are_valid()


def test_what_looks_at_a_plugin_has_nothing_heavy_loaded_itself():
    script = (
        "import gitmachine.testing.probe, sys; print(sorted({'asyncio', 'attr', 'click', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "['attr']\n"


class TestLocalPackage(PluginConformance):
    """The kit on a provider of this project."""

    package = "gitmachine-local"
