"""P2: a whole session (start, clone, change, commit, push, stop) against scripts of docker and git commands.

    python -m benchmarks whole_sessions

One script is what somebody would write by hand: as few commands as possible. The other is the sequence of GitMachine
for TypeScript: one command in the machine for each step. Both clone inside the container, from a mounted repository;
ours has no network and no mount, and everything goes through the host. Ours also asks the remote at the end.

The container's start and end alone are measured too: they are what is left when everything else costs nothing.

In the local sandbox the script has no machine at all, so there is no aim for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from benchmarks import places
from benchmarks.report import Aim, interleaved, publish
from gitmachine import GitMachine

ROUNDS = 7
SIZES = {"120 commits": 120, "1 200 commits": 1_200, "6 000 commits": 6_000}
SCRIPT, UPSTREAM, OURS = "script of docker and git", "the sequence of the TypeScript GitMachine", "GitMachine"
FLOOR = "docker run and docker rm alone"
_numbers = count()


def by_script(engine: places.Docker, remote: Path) -> Callable[[], None]:
    """Return a session by hand."""

    def run() -> None:
        branch = f"script-{next(_numbers)}"
        with engine.container("-v", f"{remote}:/remote", "-w", "/root") as box:
            engine.run("exec", box, "git", "config", "--global", "safe.directory", "*")
            engine.run("exec", box, "git", "clone", "-q", "-b", "main", "file:///remote", "repo")
            engine.run("exec", "-w", "/root/repo", box, "git", "checkout", "-q", "-b", branch)
            engine.run("exec", "-w", "/root/repo", box, "sh", "-c", "echo hi > new.txt")
            save = 'git -c user.name=Ada -c user.email=a@example.org commit -q -m auto && git push -q origin "$0"'
            engine.run("exec", "-w", "/root/repo", box, "sh", "-c", f"git add -A && {save}", branch)

    return run


def by_nothing(engine: places.Docker, remote: Path) -> Callable[[], None]:
    """Return what no session can do without: the container's start and its end."""

    def run() -> None:
        with engine.container("-v", f"{remote}:/remote", "-w", "/root"):
            pass

    return run


def by_upstream(engine: places.Docker, remote: Path) -> Callable[[], None]:
    """Return the same with one command in the machine for each step."""

    def run() -> None:
        branch = f"upstream-{next(_numbers)}"
        with engine.container("-v", f"{remote}:/remote", "-w", "/root") as box:
            engine.run("exec", box, "git", "config", "--global", "safe.directory", "*")
            engine.run("exec", box, "git", "clone", "-q", "file:///remote", "repo")
            here = ("exec", "-w", "/root/repo", box)
            engine.run(*here, "sh", "-c", 'git checkout -q "$0" 2>/dev/null || git checkout -q -b "$0"', branch)
            engine.run(*here, "git", "config", "user.name", "GitMachine")
            engine.run(*here, "git", "config", "user.email", "gitagent@machine")
            engine.run(*here, "sh", "-c", "echo hi > new.txt")
            engine.run(*here, "git", "add", "-A")
            engine.run(*here, "git", "status", "--porcelain")
            engine.run(*here, "git", "commit", "-q", "-m", "auto: checkpoint")
            engine.run(*here, "git", "rev-parse", "HEAD")
            engine.run(*here, "git", "push", "-q", "origin", branch)

    return run


def by_git(remote: Path, folder: Path) -> Callable[[], None]:
    """Return a session by git commands on this host, without any machine."""

    def run() -> None:
        name = f"git-{next(_numbers)}"
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


def by_session(provider: str, options: Mapping[str, object], remote: Path) -> Callable[[], None]:
    """Return a session of ours."""

    def run() -> None:
        session = f"session-{next(_numbers)}"
        with GitMachine(provider, repository=f"file://{remote}", session=session, options=dict(options)) as gm:
            gm.run("echo hi > new.txt", check=True)

    return run


def local(place: Path) -> None:
    """Measure in the sandbox of this host."""
    remote = place / "local.git"
    places.make_repository(remote, 1_200)
    contenders = {"git without a machine": by_git(remote, place), OURS: by_session("local", {}, remote)}
    publish("p2-local, 1 200 commits", interleaved(contenders, 15), against="git without a machine")


def docker(place: Path) -> None:
    """Measure in containers, at each size."""
    with places.docker() as engine:
        if engine is None:
            return
        for size, commits in SIZES.items():
            remote = place / f"{commits}.git"
            places.make_repository(remote, commits)
            contenders = {
                SCRIPT: by_script(engine, remote),
                FLOOR: by_nothing(engine, remote),
                UPSTREAM: by_upstream(engine, remote),
                OURS: by_session("local_docker", engine.options, remote),
            }
            aims = [Aim(OURS, SCRIPT, at_most=1.2), Aim(UPSTREAM, OURS, at_least=3)]
            publish(f"p2-docker, {size}", interleaved(contenders, ROUNDS), against=SCRIPT, aims=aims)


def main() -> None:
    """Measure every provider that can be had."""
    with places.folder() as place:
        local(place)
        docker(place)


if __name__ == "__main__":
    main()
