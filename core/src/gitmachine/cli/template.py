"""Packages rendered from the templates that this distribution holds, by names that were checked."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from pathlib import Path
from typing import Any

import attrs

import gitmachine
from gitmachine import hookspecs
from gitmachine.errors import ConfigError
from gitmachine.plugins.hints import WELL_KNOWN

__all__ = ["PackageName", "write_package"]

TEMPLATES = Path(__file__).resolve().parent / "templates"
SUFFIX = ".tmpl"
"""Ends the names of all templates, so that no tool takes one for source."""

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_HOLE = re.compile(r"\{\{(\w+)\}\}")
_MAX_LENGTH = 40


@attrs.frozen(kw_only=True)
class PackageName:
    """A name as users write it, and what follows from it.

    Attributes:
        name: the provider's or plugin's name, and its entry point's.
        distribution: what pip installs.
        module: what Python imports.
        cls: how its classes' names begin.
    """

    name: str
    distribution: str
    module: str
    cls: str

    @classmethod
    def of(cls, name: str) -> PackageName:
        """Derive the names from one that a user typed.

        Raises:
            ConfigError: it cannot be one; says what can.
        """
        if not _NAME.fullmatch(name) or len(name) > _MAX_LENGTH:
            raise ConfigError(
                f"invalid name {name!r}: use lower-case letters and digits, words joined by '-' or '_', beginning with "
                f"a letter, {_MAX_LENGTH} characters at most"
            )
        words = re.split("[-_]", name)
        if words[0] == "gitmachine":
            raise ConfigError(f"leave 'gitmachine' out of the name {name!r}: the package is called gitmachine-… anyway")
        taken = {"core", "guard", "jsonl", "policy", "steps", *WELL_KNOWN}
        if "_".join(words) in taken:
            raise ConfigError(f"the name {name!r} is taken by a package of GitMachine itself: choose another")
        return cls(
            name=name,
            distribution=f"gitmachine-{'-'.join(words)}",
            module=f"gitmachine_{'_'.join(words)}",
            cls="".join(word.capitalize() for word in words),
        )


def write_package(kind: str, package: PackageName, target: Path) -> list[str]:
    """Write a package into a new directory and return its files, sorted.

    Args:
        kind: which template, ``provider`` or ``plugin``.
        package: its names.
        target: the directory, which must not exist; missing parents are made.

    Raises:
        ConfigError: the directory exists or cannot be made; nothing was written.
    """
    files = _rendered(kind, package)
    _make(target)
    try:
        for name, text in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"cannot write to {str(target)!r}: {error.strerror or error}; nothing was left") from error
    return sorted(files)


def _make(target: Path) -> None:
    """Make the directory itself: that it is new is what keeps everything else from being overwritten."""
    text = str(target)
    if not text.isprintable():
        raise ConfigError(f"invalid directory {text!r}: it holds characters that cannot be printed")
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
        target.mkdir()
    except OSError as error:
        if os.path.lexists(target):
            raise ConfigError(f"{text!r} exists already, and nothing is overwritten: name a new directory") from error
        raise ConfigError(f"cannot make the directory {text!r}: {(error.strerror or str(error)).lower()}") from error


def _rendered(kind: str, package: PackageName) -> dict[str, str]:
    """Return each file's path and text."""
    values = {
        **attrs.asdict(package),
        "constant": package.module.upper(),
        "core": _compatible(gitmachine.__version__),
        "hooks": _hooks(),
    }
    folder = TEMPLATES / kind
    found = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        name = path.relative_to(folder).as_posix().removesuffix(SUFFIX).replace("__module__", package.module)
        text = path.read_text(encoding="utf-8")
        found[".gitignore" if name == "gitignore" else name] = _HOLE.sub(lambda hole: values[hole[1]], text)
    return found


def _compatible(version: str) -> str:
    major, minor, *_ = version.split(".")
    return f">={version},<{major}.{int(minor) + 1}"


def _hooks() -> str:
    """Return a list of every hook with its arguments, from the specifications themselves."""
    specs: dict[str, Any] = {
        name: spec for name, spec in vars(hookspecs).items() if name.startswith(f"{hookspecs.GROUP}_")
    }
    lines = []
    for name, spec in specs.items():
        arguments = ", ".join(inspect.signature(spec).parameters)
        first = (inspect.getdoc(spec) or "").partition("\n")[0]
        lines.append(f"- `{name}({arguments})`: {first}")
    return "\n".join(lines)
