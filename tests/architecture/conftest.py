"""The shipped sources, parsed once, for the tests that hold the architecture.

Time budget: no tests here; parsing all sources takes under 2 s.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen
class Imported:
    """One import statement's target: `module`, and `name` when it is a from-import."""

    module: str
    name: str | None
    line: int


@attrs.frozen
class Source:
    """One shipped module."""

    name: str
    path: Path
    text: str
    tree: ast.Module = attrs.field(repr=False)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def where(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"

    def imports(self) -> Iterator[Imported]:
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Imported(alias.name, None, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".")
                    base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
                for alias in node.names:
                    yield Imported(base, alias.name, node.lineno)


def _sources(folder: Path) -> list[Source]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Source(name, path, text, ast.parse(text)))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def core() -> list[Source]:
    """Every module of the core."""
    return _sources(ROOT / "core" / "src")


@pytest.fixture(scope="session")
def providers() -> list[Source]:
    """Every module of every provider."""
    return [source for folder in sorted((ROOT / "providers").glob("*/src")) for source in _sources(folder)]


@pytest.fixture(scope="session")
def plugins() -> list[Source]:
    """Every module of every plugin that is a distribution of its own."""
    return [source for folder in sorted((ROOT / "plugins").glob("*/src")) for source in _sources(folder)]


@pytest.fixture(scope="session")
def shipped(core: list[Source], providers: list[Source], plugins: list[Source]) -> list[Source]:
    """Every module that a user installs."""
    return core + providers + plugins
