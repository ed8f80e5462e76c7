"""Where the configuration file is, and what is in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gitmachine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FILE_NAME", "Source", "find", "locate", "user_file"]

FILE_NAME = "gitmachine.toml"
PYPROJECT = "pyproject.toml"
LARGEST_FILE_BYTES = 1024 * 1024

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|(end of document))\)$")


@attrs.frozen(kw_only=True)
class Source:
    """A configuration file and its data (of a ``pyproject.toml``, the table ``tool.gitmachine``)."""

    path: Path
    data: Mapping[str, Any]


def _syntax(path: Path, error: tomllib.TOMLDecodeError, text: str) -> ConfigError:
    message = str(error)
    found = _POSITION.search(message)
    line, column = (found[1], found[2]) if found and found[1] else (str(text.count("\n") + 1), None)
    what = _POSITION.sub("", message)
    where = f"line {line}" + (f", column {column}" if column else "")
    return ConfigError(f"{path} is not valid TOML: {what[:1].lower()}{what[1:]} @ {where}")


def _text(path: Path) -> str:
    try:
        if not path.exists():
            raise ConfigError(f"the configuration file {str(path)!r} does not exist")
        if not path.is_file():
            raise ConfigError(f"the configuration file {str(path)!r} is not a file")
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {str(path)!r}: {error.strerror}") from error
    except ValueError as error:  # a NUL character in the name
        raise ConfigError(f"cannot read the configuration file {str(path)!r}: {error}") from error
    if len(raw) > LARGEST_FILE_BYTES:
        raise ConfigError(f"the configuration file {str(path)!r} is larger than {LARGEST_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not valid TOML: expected UTF-8 text @ line {line}") from None


def _read(path: Path) -> Source:
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(path, error, text) from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: nested too deeply") from None
    if path.name == PYPROJECT:
        data = _table(path, data)
    return Source(path=path, data=data)


def _table(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    tool = data.get("tool", {})
    table = tool.get("gitmachine", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"expected a table @ tool.gitmachine in {path}")
    return table


def _names_us(path: Path) -> bool:
    """Whether a pyproject.toml speaks of us; one of another project may be broken without stopping anybody."""
    try:
        text = _text(path)
    except ConfigError:
        return False
    try:
        tool = tomllib.loads(text).get("tool")
    except (tomllib.TOMLDecodeError, RecursionError):
        return "tool.gitmachine" in text
    return isinstance(tool, dict) and "gitmachine" in tool


def user_file(environ: Mapping[str, str]) -> Path:
    """Return the file of the user's configuration directory, whether it exists or not."""
    from gitmachine.state.places import Places

    return Places.default(environ).config / FILE_NAME


def _candidates(environ: Mapping[str, str], cwd: Path | None) -> Iterator[Path]:
    if cwd is not None:
        for folder in (cwd, *cwd.parents):
            yield folder / FILE_NAME
            yield folder / PYPROJECT
    yield user_file(environ)


def locate(path: str | Path | None, environ: Mapping[str, str], cwd: Path | None) -> Path | None:
    """Return the file that is read: the one named, else by ``GITMACHINE_CONFIG``, else the first of the usual ones."""
    named = path if path is not None else environ.get("GITMACHINE_CONFIG", "").strip() or None
    if named is not None:
        return Path(named).expanduser()
    for candidate in _candidates(environ, cwd):
        try:
            present = candidate.exists()
        except OSError:
            continue  # a folder above that we may not look into
        if present and (candidate.name != PYPROJECT or _names_us(candidate)):
            return candidate
    return None


def find(path: str | Path | None, environ: Mapping[str, str], cwd: Path | None) -> Source | None:
    """Return what is in the configuration file, or None when there is none.

    Raises:
        ConfigError: it cannot be read, or is not TOML (file, line and what is wrong).
    """
    found = locate(path, environ, cwd)
    return _read(found) if found is not None else None
