"""A folder on ``sys.path`` in which tests install distributions, with real metadata on disk.

Time budget: no tests here; an installation takes milliseconds.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from gitmachine.plugins.discovery import find_plugins
from gitmachine.plugins.host import PluginHost

SAMPLES = Path(__file__).resolve().parents[2] / "plugins"


class Site:
    """A folder of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, distribution, points, *, version="1.0", modules=None, entry_points=None):
        """Write a distribution's metadata and modules.

        `points` maps entry point names to references, `modules` names to sources; a sample's name copies the sample.
        """
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        listing = "".join(f"{name} = {reference}\n" for name, reference in points.items())
        (info / "entry_points.txt").write_text(entry_points or f"[gitmachine]\n{listing}")
        for name, source in (modules or {}).items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return info

    def sample(self, name):
        """Return the source of one of the sample plugins."""
        return (SAMPLES / f"{name}.py").read_text()

    def host(self, **options) -> PluginHost:
        """Return a host over the distributions of this folder only."""
        return PluginHost(entry_points=find_plugins([str(self.path)]), **options)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Give a test a folder of its own to install into; what it imported is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(folder)):
            del sys.modules[name]
