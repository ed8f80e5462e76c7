"""The wheels, built and installed into a clean environment that holds nothing but what they declare.

Works without a network: hatchling is there already, and the declared dependencies are linked from this environment.
Time budget: 60 s.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "gitmachine_core": ROOT / "core",
    **{f"gitmachine_{name}": ROOT / "providers" / name for name in ("local", "local_docker", "ssh", "e2b")},
    **{f"gitmachine_{name}": ROOT / "plugins" / name for name in ("jsonl", "policy", "steps")},
}


def _run(*argv: str | Path, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=110, check=False, **options)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    _run(*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", folder, *PACKAGES.values())
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def _requirements(metadata) -> list[Requirement]:
    found = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def _metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def _closure(wheels: dict[str, Path]) -> dict[str, importlib.metadata.Distribution]:
    """Return the installed distributions that the wheels need, directly or not, less the wheels themselves."""
    todo = [requirement for wheel in wheels.values() for requirement in _requirements(_metadata(wheel))]
    found: dict[str, importlib.metadata.Distribution] = {}
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found or name.replace("-", "_") in wheels:
            continue
        distribution = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(distribution.version), f"{requirement}: {distribution.version} is here"
        found[name] = distribution
        todo += _requirements(distribution.metadata)
    return found


@pytest.fixture(scope="module")
def clean(wheels, tmp_path_factory) -> Path:
    """Return the bin folder of an environment with the wheels and what they declare, and nothing else."""
    place = tmp_path_factory.mktemp("clean")
    _run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    for distribution in _closure(wheels).values():
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in {"..", "__pycache__"}}:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", python]
    _run(*pip, "install", "--no-index", "--no-deps", *wheels.values())
    return place / "bin"


def _gitmachine(clean: Path, *args: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return _run(clean / "gitmachine", *args, env=environment, cwd="/").stdout


@pytest.mark.parametrize(("name", "folder"), PACKAGES.items())
def test_a_wheel_holds_every_source_file_and_nothing_else(wheels, name, folder):
    import_name = {"gitmachine_core": "gitmachine"}.get(name, name)
    source = folder / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / import_name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[name]) as archive:
        packed = {entry for entry in archive.namelist() if ".dist-info/" not in entry}
    assert packed == expected
    assert f"{import_name}/py.typed" in packed


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_says_what_it_is(wheels, name):
    metadata = _metadata(wheels[name])
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Version"] == "0.1.0"
    assert metadata.get_payload().strip(), "the package's page would be empty"
    with zipfile.ZipFile(wheels[name]) as archive:
        licence = next(entry for entry in archive.namelist() if entry.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_core_depends_on_what_its_design_names_and_on_no_more(wheels):
    names = {requirement.name for requirement in _requirements(_metadata(wheels["gitmachine_core"]))}
    assert names == {"attrs", "cattrs", "click", "importlib-metadata", "platformdirs", "pluggy", "rich"}


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "gitmachine_core"])
def test_every_other_package_depends_on_a_compatible_core(wheels, name):
    found = {r.name: r.specifier for r in _requirements(_metadata(wheels[name]))}
    assert found["gitmachine-core"].contains("0.1.5")
    assert not found["gitmachine-core"].contains("0.2.0")


def test_the_installed_command_tells_its_version(clean):
    assert "0.1.0" in _gitmachine(clean, "--version")


def test_the_installed_command_finds_every_provider_and_no_other(clean):
    listed = json.loads(_gitmachine(clean, "providers", "--json"))
    found = [(provider["name"], provider["usable"]) for provider in listed["providers"]]
    assert found == [("e2b", True), ("local", True), ("local_docker", True), ("ssh", True)]
    assert listed["broken"] == []


def test_the_installed_command_finds_every_plugin_and_all_of_them_work(clean):
    listed = json.loads(_gitmachine(clean, "plugins", "--json"))
    names = ("core", "e2b", "guard", "jsonl", "local", "local_docker", "policy", "ssh", "steps")
    assert {plugin["name"]: plugin["status"] for plugin in listed["plugins"]} == dict.fromkeys(names, "ok")


def test_a_command_of_an_installed_plugin_is_there(clean):
    assert "  events " in _gitmachine(clean, "--help")
    assert _gitmachine(clean, "events", "--help").startswith("Usage: gitmachine events")
