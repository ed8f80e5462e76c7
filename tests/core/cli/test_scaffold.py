"""New packages: right names, nothing overwritten, nothing hostile let in. That they work is tried in tests/packaging.

Time budget: 10 s.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from gitmachine import ConfigError, __version__, hookspecs
from gitmachine.cli import main
from gitmachine.cli.template import TEMPLATES, PackageName, write_package

DOCS = Path(__file__).resolve().parents[3] / "docs"
HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "Fly",
    "1fly",
    "fly-",
    "-",
    "a b",
    "a.b",
    'a"',
    "a\n",
    "é",
    "a--b",
    "x" * 41,
]
HOSTILE_NAMES += ["{{cls}}", "$(id)", "a\0b"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["provider", "plugin"])
def test_a_package_is_written_whole_with_its_names_and_nothing_left_open(kind, place, capfd):
    assert main([f"new-{kind}", "my-fly_2", "deep/down", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["distribution"] == "gitmachine-my-fly-2"
    assert document["module"] == "gitmachine_my_fly_2"
    assert document["directory"] == "deep/down"
    written = files(place / "deep" / "down")
    assert document["files"] == sorted(written)
    assert {".gitignore", "README.md", "pyproject.toml", "tests/test_package.py"} <= written.keys()
    for name, text in written.items():
        assert "{{" not in text.replace("{{cls}}", ""), name
        assert "__module__" not in name
        if name.endswith(".py"):
            ast.parse(text, name)
    project = tomllib.loads(written["pyproject.toml"])["project"]
    assert project["name"] == "gitmachine-my-fly-2"
    assert project["entry-points"]["gitmachine"] == {"my-fly_2": "gitmachine_my_fly_2.plugin"}
    assert f"gitmachine-core>={__version__},<0.2" in project["dependencies"]
    assert any("CHANGE" in text for text in written.values())


def test_without_a_directory_it_is_that_of_the_distribution_and_what_comes_next_is_said(place, capfd):
    assert main(["new-plugin", "notes"]) == 0
    assert (place / "gitmachine-notes" / "pyproject.toml").is_file()
    shown = capfd.readouterr()
    assert "gitmachine-notes/src/gitmachine_notes/plugin.py" in shown.out.splitlines()
    assert "pip install -e 'gitmachine-notes[test]'" in shown.err


def test_the_classes_of_a_provider_are_named_after_it(place):
    package = PackageName.of("my-fly_2")
    assert package.cls == "MyFly2"
    write_package("provider", package, place / "x")
    assert "class MyFly2Machine(Machine):" in (place / "x" / "src" / package.module / "machine.py").read_text()


def test_each_method_that_talks_to_the_backend_is_marked(place):
    write_package("provider", PackageName.of("fly"), place / "fly")
    tree = ast.parse(text := (place / "fly" / "src" / "gitmachine_fly" / "machine.py").read_text())
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    assert {node.name for node in methods} == {"start", "stop", "spawn", "read_file", "write_file", "list_files"}
    lines = text.splitlines()
    for node in methods:
        assert any("# CHANGE" in line for line in lines[node.lineno : node.end_lineno]), node.name


def test_the_page_of_a_plugin_lists_every_hook_of_this_core(place):
    write_package("plugin", PackageName.of("notes"), place / "notes")
    text = (place / "notes" / "README.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("gitmachine_")]
    assert re.findall(r"^- `(gitmachine_\w+)\(", text, re.MULTILINE) == hooks


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_cannot_be_one_is_refused_and_nothing_is_written(name, place):
    with pytest.raises(ConfigError, match="invalid name"):
        PackageName.of(name)
    if "\0" not in name:
        assert main(["new-provider", "--", name, "target"]) == 2
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["local", "ssh", "e2b", "docker", "local-docker", "core", "guard", "policy"])
def test_a_name_of_this_project_is_refused(name, place, capfd):
    assert main(["new-provider", name]) == 2
    assert f"{name!r} is taken" in capfd.readouterr().err
    assert main(["new-plugin", "gitmachine-notes"]) == 2
    assert "leave 'gitmachine' out" in capfd.readouterr().err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "file", "dangling link", "link to a folder", "here"])
def test_what_exists_is_not_touched(what, place, capfd):
    target = place / "target"
    if what == "folder":
        target.mkdir()
        (target / "precious.txt").write_text("precious")
    elif what == "file":
        target.write_text("precious")
    elif what == "dangling link":
        target.symlink_to(place / "elsewhere")
    elif what == "link to a folder":
        (place / "real").mkdir()
        target.symlink_to(place / "real")
    else:
        target = place
    before = sorted(str(path) for path in place.rglob("*"))
    assert main(["new-provider", "fly", str(target)]) == 2
    assert "exists already, and nothing is overwritten" in capfd.readouterr().err
    assert sorted(str(path) for path in place.rglob("*")) == before


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("a\nb", "cannot be printed"),
        ("file/below", "cannot make"),
        ("file/deep/below", "not a directory"),
        ("x" * 300, "too long"),
        ("", "exists already"),
    ],
)
def test_a_directory_that_cannot_be_made_is_said_in_one_line(directory, reason, place, capfd):
    (place / "file").touch()
    assert main(["new-provider", "fly", directory]) == 2
    shown = capfd.readouterr().err
    assert reason in shown.lower()
    assert "Traceback" not in shown
    assert [path.name for path in place.iterdir()] == ["file"]


def test_a_name_or_directory_that_begins_with_a_dash_is_no_option(place):
    assert main(["new-provider", "fly", "--", "-dash"]) == 0
    assert (place / "-dash" / "pyproject.toml").is_file()


def test_a_failure_in_the_middle_leaves_nothing(place, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="No space left on device; nothing was left"):
        write_package("plugin", PackageName.of("notes"), place / "notes")
    assert list(place.iterdir()) == []


def test_templates_are_no_source_to_any_tool():
    assert all(path.name.endswith(".tmpl") for path in TEMPLATES.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("page", "kind", "name"), [("write-a-provider", "provider", "fly"), ("write-a-plugin", "plugin", "notes")]
)
def test_the_code_that_a_page_shows_is_that_of_the_new_package(page, kind, name, place):
    write_package(kind, PackageName.of(name), place / name)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^```\w+[^\n]*\n# ((?:src|tests)/\S+|pyproject\.toml)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    assert shown
    for file, excerpt in shown:
        whole = (place / name / file).read_text(encoding="utf-8")
        for part in re.split(r"^ *# \.\.\.\n", excerpt, flags=re.MULTILINE):
            found = any(textwrap.indent(part, " " * depth) in whole for depth in (0, 4))
            assert found, f"{page}.md shows of {file} what is not there:\n{part}"
