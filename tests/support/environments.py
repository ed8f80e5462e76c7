"""Wheels, and environments that hold nothing but what is put into them. Works without a network. No tests here."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["CleanEnvironment", "build_wheels", "required_by"]

SECONDS = 280

_BUILD = """
import os, sys
import hatchling.build
for folder in sys.argv[2:]:
    os.chdir(folder)
    hatchling.build.build_wheel(sys.argv[1])
"""


_SCRIPT = """\
#!{0}
import sys
from {1} import {2}
sys.exit({2}())
"""


def _run(
    argv: Sequence[str | Path],
    *,
    code: int | None = 0,
    cwd: Path | str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*map(str, argv)], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=cwd, env=env
    )
    assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def build_wheels(folders: Iterable[Path], target: Path) -> dict[str, Path]:
    """Build a wheel of each folder, by the build backend itself and in one process; returns them by distribution."""
    target.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-c", _BUILD, target, *folders])
    return {path.name.split("-")[0].replace("_", "-"): path for path in target.glob("*.whl")}


def required_by(name: str) -> list[str]:
    """Return what an installed distribution requires, without any extra."""
    found = [Requirement(text) for text in importlib.metadata.distribution(name).requires or []]
    return [r.name for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Return the installed distributions of these names, and what they require, directly or not."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name not in found:
            found[name] = importlib.metadata.distribution(name)
            todo += required_by(name)
    return list(found.values())


class CleanEnvironment:
    """A virtual environment. Other people's packages are linked from the tests' own; ours come as wheels."""

    def __init__(self, place: Path, *names: str, home: Path) -> None:
        """Make it, with the distributions of these names and what they require; `home` is GitMachine's."""
        self.place = place
        self.home = home
        _run([sys.executable, "-m", "venv", "--without-pip", place])
        where = _run([self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
        for distribution in closure(["pip", *names]):
            tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
            for top in tops:
                link = Path(where, top)
                if not link.exists():
                    link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
            for point in distribution.entry_points.select(group="console_scripts"):
                script = place / "bin" / point.name
                script.write_text(_SCRIPT.format(self.python, point.module, point.attr))
                script.chmod(0o755)

    @property
    def python(self) -> Path:
        return self.place / "bin" / "python"

    def pip(self, *arguments: str | Path) -> None:
        _run(
            [self.python, "-m", "pip", "--disable-pip-version-check", "-q", *arguments],
            env=self._variables({}),
            cwd=self.place,
        )

    def install(self, *wheels: Path) -> None:
        self.pip("install", "--no-index", "--no-deps", *wheels)

    def uninstall(self, *names: str) -> None:
        self.pip("uninstall", "--yes", *names)

    def run(
        self, program: str, *arguments: str | Path, code: int | None = 0, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment and check its exit code (None: any)."""
        argv = [self.place / "bin" / program, *arguments]
        return _run(argv, code=code, cwd=cwd or self.place, env=self._variables(variables))

    def _variables(self, more: dict[str, str]) -> dict[str, str]:
        dropped = ("PYTHON", "PYTEST_", "GITMACHINE_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **kept,
            "PATH": f"{self.place / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "GITMACHINE_HOME": str(self.home),
            **more,
        }
