"""Other tools, each driven in a process of its own, which measures itself.

A worker is a script in ``workers/``. It is told its arguments as JSON, prepares itself, prints ``ready``, and then does
its work once for each line that it reads, answering with the seconds that it took. So neither its start nor the pipe
counts, and its turns can alternate with those of others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".venv-peers"


def peers_python() -> str:
    """Return the interpreter of the environment with all peers, made on first use."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / ".installed"
    wanted = (HERE / "peers.txt").read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print("setting up the peers ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq", "install", "-r", HERE / "peers.txt"]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


class Worker:
    """A peer that is ready to work."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def __call__(self) -> float:
        """Let it work once; returns the seconds that it took by its own clock."""
        return float(self._answer("go"))

    def peak_bytes(self) -> int:
        """Return the most memory that it ever had."""
        return int(self._answer("memory"))

    def _answer(self, word: str) -> str:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError(self._name)
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the peer {self._name} has ended with {self._process.wait()}")
        return answer


@contextmanager
def worker(name: str, *, python: str | None = None, **arguments: object) -> Iterator[Worker]:
    """Start a worker by its name, in the peers' environment or another one."""
    argv = [python or peers_python(), str(HERE / "workers" / f"{name}.py"), json.dumps(arguments)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the peer {name} did not start")
        yield Worker(process, name)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
