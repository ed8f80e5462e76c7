"""The real command line in processes of its own, with directories of its own. Time budget: no tests here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitmachine.cli import main
from gitmachine.errors import GitMachineError
from gitmachine.plugins.host import PluginHost
from gitmachine.plugins.registry import Registry
from gitmachine.state.journal import Journal
from gitmachine.state.places import Places
from gitmachine.state.records import MachineRecord
from support.commandline import Started
from support.repos import make_remote

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Home:
    """The directories of one test's command lines, and what the journal in them says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment for a command line whose everything is below this home."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env["GITMACHINE_HOME"] = str(self.path)
        for name, value in (extra or {}).items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        return env

    def machines(self) -> list[MachineRecord]:
        """Return the machines that the journal takes for alive."""
        places = Places.default({"GITMACHINE_HOME": str(self.path)})
        if not places.journal.exists():
            return []

        async def read() -> list[MachineRecord]:
            async with await Journal.aopen(places) as journal:
                return await journal.machines()

        return asyncio.run(read())

    def end_machines(self) -> None:
        """End every machine that is left, as nothing else here would."""

        async def end(record: MachineRecord) -> None:
            if record.machine_id is None:
                return
            try:
                machine = await Registry(PluginHost()).connect(record.provider, record.machine_id)
                await machine.stop()
            except GitMachineError:
                return  # it is gone already

        for record in self.machines():
            asyncio.run(end(record))


@pytest.fixture
def home(gitmachine_home: Path) -> Iterator[Home]:
    """The directories of this test's command lines; machines that are left in them are ended."""
    home = Home(gitmachine_home)
    yield home
    home.end_machines()


@pytest.fixture
def gitmachine(home: Home, tmp_path: Path) -> Run:
    """Run ``gitmachine`` to its end in an empty directory."""

    def run(
        *args: str, env: Mapping[str, str | None] | None = None, cwd: Path | None = None, text: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gitmachine", *args],
            env=home.environment(env),
            cwd=cwd or tmp_path,
            capture_output=True,
            text=text,
            errors="surrogateescape" if text else None,
            stdin=subprocess.DEVNULL,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture
def inside(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    """Run ``gitmachine`` to its end in this process, in an empty directory: as a process would, but faster.

    Each call opens everything anew. For steps between others that are processes of their own.
    """

    def run(*args: str, env: Mapping[str, str] | None = None, text: bool = True) -> subprocess.CompletedProcess[Any]:
        with monkeypatch.context() as changed:
            changed.chdir(tmp_path)
            for name, value in (env or {}).items():
                changed.setenv(name, value)
            code = main(list(args))
        out, err = capfdbinary.readouterr()
        if not text:
            return subprocess.CompletedProcess(args, code, out, err)
        decoded = (data.decode("utf-8", "surrogateescape") for data in (out, err))
        return subprocess.CompletedProcess(args, code, *decoded)

    del home  # ends what is left
    return run


@pytest.fixture
def begin(home: Home, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Begin command lines; those that are left are killed."""
    begun: list[Started] = []

    def start(*args: str) -> Started:
        begun.append(Started(home.environment(), tmp_path, *args))
        return begun[-1]

    yield start
    for item in begun:
        item.close()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare repository with a few commits on main."""
    return make_remote(tmp_path / "remote.git", commits=3)
