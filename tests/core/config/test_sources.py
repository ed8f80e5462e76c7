"""Which file is read, and what is said of one that cannot be. Time budget: 1 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitmachine.config.sources import find
from gitmachine.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"GITMACHINE_HOME": str(tmp_path / "home")}


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def found(environ: dict[str, str], cwd: Path, path: str | Path | None = None) -> Path | None:
    source = find(path, environ, cwd)
    return source.path if source is not None else None


def test_the_first_found_wins(tmp_path: Path, environ: dict[str, str]) -> None:
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    assert found(environ, work) is None
    user = write(tmp_path / "home" / "config" / "gitmachine.toml", "")
    assert found(environ, work) == user
    upper = write(tmp_path / "gitmachine.toml", "")
    assert found(environ, work) == upper
    project = write(tmp_path / "a" / "pyproject.toml", "[tool.gitmachine]\nsession = 'x'")
    assert found(environ, work) == project
    beside = write(tmp_path / "a" / "gitmachine.toml", "")
    assert found(environ, work) == beside
    named = write(tmp_path / "other.toml", "")
    assert found(environ | {"GITMACHINE_CONFIG": str(named)}, work) == named
    argument = write(tmp_path / "argument.toml", "")
    assert found(environ | {"GITMACHINE_CONFIG": str(named)}, work, argument) == argument


def test_the_table_of_a_pyproject_is_read(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path / "pyproject.toml", "[project]\nname = 'x'\n[tool.gitmachine]\nsession = 'y'")
    source = find(None, environ, tmp_path)
    assert source is not None
    assert source.data == {"session": "y"}
    assert found(environ, tmp_path, path) == path


@pytest.mark.parametrize("text", ["[project]\nname = 'x'", "[tool.other]\nx = 1", "this is not toml", "tool = 5"])
def test_a_pyproject_of_others_is_passed_over(tmp_path: Path, environ: dict[str, str], text: str) -> None:
    write(tmp_path / "pyproject.toml", text)
    assert found(environ, tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = 1\nb = \n", "{path} is not valid TOML: invalid value @ line 2, column 5"),
        ("a = 1\n[b", "{path} is not valid TOML: expected ']' at the end of a table declaration @ line 2"),
        (b"a = 1\nb = '\xff'", "{path} is not valid TOML: expected UTF-8 text @ line 2"),
        ("a = " + "[" * 5000, "{path} is not valid TOML: nested too deeply"),
    ],
)
def test_a_file_that_is_not_toml_is_told_with_line_and_reason(
    tmp_path: Path, environ: dict[str, str], content: str | bytes, message: str
) -> None:
    path = write(tmp_path / "gitmachine.toml", content)
    with pytest.raises(ConfigError) as caught:
        find(path, environ, tmp_path)
    assert str(caught.value).startswith(message.format(path=path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.toml", "does not exist"),
        ("folder", "is not a file"),
        ("a\0b", "does not exist|cannot read"),
        ("x" * 300, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, environ: dict[str, str], name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=message):
        find(f"{tmp_path}/{name}", environ, tmp_path)


def test_a_broken_pyproject_that_names_us_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / "pyproject.toml", "[tool.gitmachine]\nsession =")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        find(None, environ, tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path / "gitmachine.toml", b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        find(path, environ, tmp_path)
