"""A repository in a directory as a `Workspace` sees it: scripts run as local processes, with a choice of shells."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gitmachine.errors import CommandTimeoutError
from gitmachine.execution import ExecRequest, ExecResult
from gitmachine.git.model import GitIdentity
from gitmachine.git.workspace import Workspace
from support.repos import git

IDENTITY = GitIdentity("Session Agent", "agent@example.org")
SHELLS = [name for name in ("sh", "dash", "bash", "busybox") if shutil.which(name)]
"""The shells of this host; `busybox` also brings its own find, xargs, grep, cp and the rest."""


class Runner:
    """An `execute` that runs requests here; remembers how many there were."""

    def __init__(self, *, shell: str = "sh", home: Path, env: Mapping[str, str] | None = None) -> None:
        self.count = 0
        self.argv: list[tuple[str, ...]] = []
        self.prefix: tuple[str, ...] = ()
        path = os.environ["PATH"]
        if shell == "busybox":
            path = str(_busybox_tools(home / "busybox"))
        elif shell != "sh":
            tools = home / f"as-{shell}"
            tools.mkdir(exist_ok=True)
            (tools / "sh").symlink_to(shutil.which(shell) or shell)
            path = f"{tools}:{path}"
        self.env = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **(env or {})}

    async def __call__(self, request: ExecRequest) -> ExecResult:
        self.count += 1
        self.argv.append(request.command)
        assert request.stdin is None or isinstance(request.stdin, bytes)
        return await asyncio.to_thread(self._run, request, request.stdin or b"")

    def _run(self, request: ExecRequest, stdin: bytes) -> ExecResult:
        argv = [*self.prefix, *(os.fsencode(part) for part in request.command)]
        env = {**self.env, **request.env}
        try:
            done = subprocess.run(
                argv, input=stdin, cwd=request.cwd, env=env, capture_output=True, timeout=request.timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            partial = ExecResult(exit_code=137, stderr_bytes=error.stderr or b"", timed_out=True)
            raise CommandTimeoutError("the command exceeded its timeout", result=partial) from error
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        limit = request.max_output_bytes
        return ExecResult(
            exit_code=code,
            stdout_bytes=done.stdout[:limit],
            stderr_bytes=done.stderr[-limit:],
            truncated=len(done.stdout) > limit,
        )


def _busybox_tools(folder: Path) -> Path:
    """Make a PATH of busybox applets and git alone, as in a small image."""
    if not folder.is_dir():
        folder.mkdir()
        busybox = shutil.which("busybox") or "busybox"
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout
        for name in names.split():
            (folder / name).symlink_to(busybox)
        (folder / "git").symlink_to(shutil.which("git") or "git")
    return folder


class Lab:
    """A repository at `path`, its workspace, and short ways to change and to read it."""

    def __init__(self, root: Path, *, shell: str = "sh", env: Mapping[str, str] | None = None) -> None:
        self.home = root / "home"
        self.home.mkdir(exist_ok=True)
        self.path = root / "repository"
        self.runner = Runner(shell=shell, home=self.home, env=env)
        self.workspace = Workspace(self.runner, str(self.path), IDENTITY, lock_wait_seconds=0.3)

    def init(self, files: Mapping[str, bytes | str] | None = None) -> Lab:
        """Make the repository, with one commit when there are files."""
        git("init", "-q", "--initial-branch=main", self.path)
        if files:
            self.write(files)
            self.git("add", "-A")
            self.git("commit", "-q", "-m", "initial")
        return self

    def git(self, *args: str | Path, check: bool = True) -> str:
        return git("-C", self.path, *args, check=check)

    def write(self, files: Mapping[str, bytes | str], *, below: str = "") -> None:
        for name, content in files.items():
            file = self.path / below / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def nested(self, name: str, files: Mapping[str, bytes | str] | None = None, *, top: Path | None = None) -> Path:
        """Make a repository inside, with a commit of its files when there are any."""
        inner = (top or self.path) / name
        git("init", "-q", "--initial-branch=main", inner)
        if files:
            self.write(files, below=str(inner.relative_to(self.path)) if top is None else str(inner))
            git("-C", inner, "add", "-A")
            git("-C", inner, "commit", "-q", "-m", "inner")
        return inner

    def hook(self, name: str, script: str) -> None:
        file = self.path / ".git" / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def tree(self, revision: str = "HEAD") -> str:
        return self.git("rev-parse", f"{revision}^{{tree}}")

    def index(self) -> bytes:
        return (self.path / ".git" / "index").read_bytes()
