"""The Go implementation's quick start, translated, on the sandboxed local provider. Time budget: 30 s."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, ExecRequest, ExecResult, GitMachine, LogEntry, Machine, MachineState, StateError
from support.repos import show, tip

pytestmark = pytest.mark.requires("sandbox")

EVENTS = [
    "cloned",
    "started",
    "command_started",  # on_start
    "command_finished",
    "committed",
    "command_started",  # review
    "command_finished",
    "committed",
    "paused",
    "resumed",
    "command_started",  # continue
    "command_finished",
    "committed",
    "pushed",
    "stopping",
    "stopped",
]


def check_published(remote: Path, receipt: Any) -> None:
    assert receipt.remote_sha == tip(remote, "feature-work")
    assert show(remote, "feature-work:tools.txt") == "installed"
    assert show(remote, "feature-work:review.txt") == "first\nsecond"


def test_the_quick_start(remote: Path) -> None:
    seen: list[str] = []

    def on_start(gm: GitMachine) -> None:
        gm.run("echo installed > tools.txt", check=True)
        gm.commit("install the tools")

    machine = GitMachine(
        "local",
        repository=f"file://{remote}",
        token="ghp_unused-0123456789",
        session="feature-work",
        auto_commit=True,
        env={"ANTHROPIC_API_KEY": "sk-0123456789"},
        on_start=on_start,
        on_event=lambda event, _data, _gm: seen.append(event),
    )
    machine.start()
    result = machine.run('echo first > review.txt; echo "reviewed with $ANTHROPIC_API_KEY"')
    assert result.stdout == "reviewed with sk-0123456789\n"
    machine.pause()
    assert machine.state is MachineState.PAUSED
    # ... later ...
    machine.resume()
    assert machine.state is MachineState.RUNNING
    machine.run("echo second >> review.txt", check=True)
    receipt = machine.stop()
    assert seen == EVENTS
    check_published(remote, receipt)
    assert [entry.result.exit_code for entry in machine.logs()] == [0, 0, 0]


async def test_the_quick_start_async(remote: Path) -> None:
    seen: list[str] = []

    async def on_start(gm: AsyncGitMachine) -> None:
        await gm.run("echo installed > tools.txt", check=True)
        await gm.commit("install the tools")

    machine = AsyncGitMachine(
        "local",
        repository=f"file://{remote}",
        session="feature-work",
        on_start=on_start,
        on_event=lambda event, _data, _gm: seen.append(event),
    )
    await machine.start()
    await machine.run("echo first > review.txt", check=True)
    await machine.pause()
    await machine.resume()
    await machine.run("echo second >> review.txt", check=True)
    receipt = await machine.stop()
    assert seen == EVENTS
    check_published(remote, receipt)


def test_fire_and_forget_with_a_thread(remote: Path) -> None:
    results: list[ExecResult] = []
    with GitMachine("local", repository=str(remote), session="feature") as gm:
        task = threading.Thread(target=lambda: results.append(gm.run("sleep 0.2; echo done > done.txt; echo ok")))
        task.start()
        assert gm.run("echo meanwhile").stdout == "meanwhile\n"
        task.join()
    assert results[0].stdout == "ok\n"
    assert show(remote, "feature:done.txt") == "done"


async def test_fire_and_forget_with_a_task(remote: Path) -> None:
    async with AsyncGitMachine("local", repository=str(remote), session="feature") as gm:
        task = asyncio.create_task(gm.run("sleep 0.2; echo done > done.txt; echo ok"))
        assert (await gm.run("echo meanwhile")).stdout == "meanwhile\n"
        assert (await task).stdout == "ok\n"
    assert show(remote, "feature:done.txt") == "done"


def test_connect_takes_a_running_machine_over(remote: Path) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    first = GitMachine("local", repository=str(remote), session="feature")
    first.start()
    first.run("echo one > one.txt")
    machine_id = first.id
    assert machine_id is not None
    first.close()
    second = GitMachine.connect(
        machine_id,
        provider="local",
        repository=str(remote),
        on_event=lambda event, data, _gm: seen.append((event, data)),
    )
    assert seen == [("reconnected", {"id": machine_id})]
    assert (second.id, second.session) == (machine_id, "feature")
    assert second.run("cat one.txt").stdout == "one\n"
    receipt = second.stop()
    assert receipt is not None
    assert receipt.pushed
    assert show(remote, "feature:one.txt") == "one"


class DirectoryMachine(Machine):
    """A machine of one's own, as in the documentation: a directory and blocking subprocesses."""

    provider = "directory"

    def __init__(self) -> None:
        self._state = MachineState.IDLE
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def id(self) -> str | None:
        return None if self._folder is None else self._folder.name

    @property
    def state(self) -> MachineState:
        return self._state

    async def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.workdir = self._folder.name
        self._state = MachineState.RUNNING

    async def stop(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self._state = None, MachineState.STOPPED

    async def execute(self, request: ExecRequest) -> ExecResult:
        def run() -> subprocess.CompletedProcess[bytes]:
            env = {"PATH": "/usr/bin:/bin", "HOME": self.workdir, **request.env}
            stdin = request.stdin if isinstance(request.stdin, bytes) else b""
            where = request.cwd or self.workdir
            return subprocess.run(request.command, cwd=where, env=env, input=stdin, capture_output=True, check=False)

        done = await asyncio.to_thread(run)
        return ExecResult(exit_code=done.returncode % 256, stdout_bytes=done.stdout, stderr_bytes=done.stderr)

    async def read_file(self, path: str, *, max_bytes: int = 100_000_000) -> bytes:
        return Path(self.workdir, path).read_bytes()

    async def write_file(self, path: str, data: bytes | str) -> None:
        target = Path(self.workdir, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    async def list_files(self, path: str = ".") -> list[str]:
        return sorted(entry.name for entry in Path(self.workdir, path).iterdir())


def test_a_machine_of_ones_own_works_without_streams(remote: Path) -> None:
    with GitMachine(DirectoryMachine(), repository=str(remote), session="feature") as gm:
        assert gm.run("cat README.md").stdout == "# Sample\n"
        gm.write_file("mine.txt", "mine")
        assert "mine.txt" in gm.diff()
        logs = gm.logs()
    assert isinstance(logs[0], LogEntry)
    assert show(remote, "feature:mine.txt") == "mine"


def test_connect_by_name_goes_on_as_the_session_was_started(remote: Path) -> None:
    first = GitMachine(
        "local", repository=str(remote), session="feature", name="mine", env={"GREETING": "hello"}, timeout=60
    )
    first.start()
    first.close()
    second = GitMachine.connect("mine")
    assert (second.session, second.repository, second.name) == ("feature", str(remote), "mine")
    assert second.run('echo "$GREETING"').stdout == "hello\n"
    second.stop()


def test_connect_by_a_name_that_nobody_has_says_so() -> None:
    with pytest.raises(StateError, match="nobody"):
        GitMachine.connect("nobody")
