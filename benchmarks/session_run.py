"""What a session costs: ``run("true")`` (P1), and a whole session against a script of git commands (P2), on `local`.

    python -m benchmarks session_run

P1 is the whole stack: the blocking class, its loop, the guard around the machine, the journal. P2 clones a repository
of 1 200 commits over ``file://``, changes a file, commits, pushes and asks the remote; the script does that without any
machine and keeps nothing, so its sandbox costs nothing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from benchmarks.report import interleaved, publish
from gitmachine import GitMachine

ROUNDS = 300
SESSIONS = 15


def make_repository(path: Path, commits: int = 1200) -> None:
    """Make a bare repository by fast-import."""
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", path], check=True)
    lines = []
    for number in range(1, commits + 1):
        lines += [
            "commit refs/heads/main",
            f"committer Ada <ada@example.org> {1_700_000_000 + number} +0000",
            f"data {len(str(number))}",
            str(number),
            f"M 100644 inline file{number % 50}.txt",
            f"data {len(str(number)) + 1}",
            f"{number}\n",
        ]
    script = "\n".join(lines) + "\n"
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=script.encode(), check=True)


def shell() -> None:
    """Run what `run("true")` is compared with."""
    subprocess.run(["sh", "-c", "true"], check=True)


def by_script(remote: Path, folder: Path) -> Callable[[], None]:
    """Return a whole session by git commands."""
    numbers = count()

    def run() -> None:
        name = f"script-{next(numbers)}"
        clone = folder / name
        git = ["git", "-C", str(clone), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", "clone", "-q", f"file://{remote}", clone], check=True)
        subprocess.run([*git, "checkout", "-q", "-b", name], check=True)
        subprocess.run(["sh", "-c", "echo hi > new.txt"], cwd=clone, check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "auto"], check=True)
        subprocess.run([*git, "push", "-q", "origin", name], check=True)
        subprocess.run([*git, "ls-remote", "origin", name], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", clone], check=True)

    return run


def by_session(remote: Path) -> Callable[[], None]:
    """Return a whole session in a sandbox."""
    numbers = count()

    def run() -> None:
        with GitMachine("local", repository=f"file://{remote}", session=f"session-{next(numbers)}") as gm:
            gm.run("echo hi > new.txt", check=True)

    return run


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory(prefix="gmb-") as name:
        folder = Path(name)
        os.environ["GITMACHINE_HOME"] = str(folder / "home")
        os.environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
        remote = folder / "remote.git"
        make_repository(remote)
        with GitMachine("local", repository=str(remote), session="p1") as gm:
            contenders = {
                "sh -c true": shell,
                'run("true")': lambda: gm.run("true"),
                'run(["true"])': lambda: gm.run(["true"]),
            }
            taken = interleaved(contenders, ROUNDS)
        publish("session-run", taken, against="sh -c true", aims={'run("true")': 2.0})
        whole = {"script of git commands": by_script(remote, folder), "a whole session": by_session(remote)}
        publish("whole-session", interleaved(whole, SESSIONS), against="script of git commands", aims={})


if __name__ == "__main__":
    main()
