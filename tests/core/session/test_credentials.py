"""A credential is nowhere but in the host's memory: a canary is planted and everything is searched. Time budget: 40 s.

The sampling looks at every process of this host, the sandbox's included, for as long as git runs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitmachine import AsyncGitMachine, GitOptions
from gitmachine.errors import CloneError, PushAuthenticationError
from gitmachine.machine import MachineState
from support.gitserver import Mischief, serving, wait_until
from support.repos import add_commit, make_remote, show, tip

CANARY = "ghp_cAnArY0123456789nowhere"
FORMS = (CANARY.encode(), base64.b64encode(f"x-access-token:{CANARY}".encode()), CANARY.encode().hex().encode())

pytestmark = [pytest.mark.requires("sandbox"), pytest.mark.requires("git-http-backend")]


def holds_canary(data: bytes) -> bool:
    return any(form in data for form in FORMS)


@contextlib.contextmanager
def sampling() -> Iterator[list[str]]:
    """Look at the arguments and environment of every process, over and over; yields what was found."""
    found: list[str] = []
    seen: set[str] = set()
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                if int(entry.name) == os.getpid():
                    continue
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        data = (entry / name).read_bytes()
                        if name == "cmdline":
                            seen.add(data.partition(b"\0")[0].rpartition(b"/")[2].decode("utf-8", "replace"))
                        if holds_canary(data):
                            found.append(f"{entry}/{name}: {data[:300]!r}")

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
    assert "git" in seen, "the sampling never saw git: it would have found nothing in any case"


def search(*roots: Path) -> list[str]:
    """Return the files below the roots that hold the canary, also inside of loose objects."""
    found = []
    for root in roots:
        for path in root.rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            data = path.read_bytes()
            with contextlib.suppress(zlib.error):
                data += zlib.decompress(data)
            if holds_canary(data):
                found.append(str(path))
    return found


# Everything a process in the machine can read: its files, the environment and arguments of all processes.
INSIDE = r"""
grep -rlaF -e "$1" -e "$2" /home /tmp /run /var /etc /dev/shm 2>/dev/null
for p in /proc/[0-9]*; do
  for f in environ cmdline; do
    tr '\0' '\n' < $p/$f 2>/dev/null | grep -aF -e "$1" -e "$2" | grep -v '^ghp_half'
  done
done
cd /home/user/repo && git config --list --show-origin
"""


def halves() -> tuple[str, str]:
    """Return two patterns that find the canary and are not the canary, so that the search does not find itself."""
    return CANARY[4:-4], FORMS[1].decode()[20:-4]


@pytest.mark.parametrize("transport", ["relay", "direct"])
async def test_the_canary_is_nowhere(
    transport: str, tmp_path: Path, gitmachine_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_remote(tmp_path / "remote.git", commits=30)
    told: list[Any] = []
    with serving(tmp_path, token=CANARY) as server, sampling() as found:
        gm = AsyncGitMachine(
            "local",
            repository=f"{server.url}/remote.git",
            token=lambda: CANARY,
            session="feature",
            options={"network": "none" if transport == "relay" else "host"},
            git=GitOptions(transport=transport),  # type: ignore[arg-type]
            on_event=lambda event, data, _gm: told.append((event, data)),
        )
        async with gm:
            await gm.run("echo work > work.txt", check=True)
            await gm.commit("work")
            await gm.push()
            await gm.pull()
            await gm.pause()
            await gm.resume()
            first, second = halves()
            inside = await gm.run(["sh", "-c", INSIDE, "sh", "ghp_half", "ghp_half"], check=False)
            assert "remote.origin.url" in inside.stdout
            assert f"{server.url}/remote.git" in inside.stdout
            # The patterns arrive by input, so that no argument holds them.
            script = f'read a; read b; set -- "$a" "$b"; {INSIDE}'
            inside = await gm.run(script, stdin=f"{first}\n{second}\n")
            assert first not in inside.stdout
            assert second not in inside.stdout
            await gm.run("echo more > more.txt")
        told += [gm.logs(), gm.receipt, repr(gm), gm.repository]
    assert found == []
    assert show(tmp_path / "remote.git", "feature:more.txt") == "more"
    assert search(gitmachine_home) == []
    assert not holds_canary(repr(told).encode())
    assert not holds_canary(caplog.text.encode())


async def test_the_search_would_find_the_canary(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(zlib.compress(b"blob 3\0" + CANARY.encode()))
    (tmp_path / "plain").write_bytes(b"x" + FORMS[1])
    assert len(search(tmp_path)) == 2


@pytest.mark.parametrize("transport", ["relay", "direct"])
async def test_a_wrong_token_is_an_error_that_does_not_tell_it(
    transport: str, tmp_path: Path, gitmachine_home: Path
) -> None:
    make_remote(tmp_path / "remote.git")
    with serving(tmp_path, token="another") as server, sampling() as found:
        gm = AsyncGitMachine(
            "local",
            repository=f"{server.url}/remote.git",
            token=CANARY,
            session="feature",
            options={"network": "none" if transport == "relay" else "host"},
            git=GitOptions(transport=transport),  # type: ignore[arg-type]
        )
        with pytest.raises(CloneError, match="credential") as caught:
            await gm.start()
    assert found == []
    error = caught.value
    assert not holds_canary(f"{error!r} {error} {error.argv} {error.stderr} {error.__cause__!r}".encode())
    assert gm.state in {MachineState.IDLE, MachineState.STOPPED}
    assert search(gitmachine_home) == []
    assert not list((gitmachine_home / "state" / "local").glob("*"))


async def test_a_token_that_expires_is_asked_for_again(tmp_path: Path) -> None:
    make_remote(tmp_path / "remote.git")
    tokens = iter(f"token-{n}-0123456789" for n in range(100))
    with serving(tmp_path, token="token-0-0123456789") as server:

        def token() -> str:
            server.token = next(tokens)
            return server.token

        async with AsyncGitMachine(
            "local", repository=f"{server.url}/remote.git", token=token, session="feature"
        ) as gm:
            await gm.run("echo x > x")
    assert gm.receipt is not None
    assert gm.receipt.pushed


async def test_a_token_that_may_not_push_keeps_the_work(tmp_path: Path) -> None:
    make_remote(tmp_path / "remote.git")
    with serving(tmp_path, token="writer-0123456789") as server:
        server.read_only_token = "reader-0123456789"
        gm = AsyncGitMachine(
            "local", repository=f"{server.url}/remote.git", token="reader-0123456789", session="feature"
        )
        await gm.start()
        await gm.run("echo x > x")
        with pytest.raises(PushAuthenticationError) as caught:
            await gm.stop()
        assert caught.value.rescue is not None
        assert caught.value.rescue.bundle is not None
        assert gm.state is MachineState.RUNNING
        receipt = await gm.stop(force=True)
        assert receipt is not None
        assert receipt.rescue is not None


async def test_a_background_loop_that_writes_during_a_slow_push_loses_nothing(tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "remote.git")
    add_commit(remote, "feature", {"f": b"f"}, start=tip(remote, "main"))
    with serving(tmp_path) as server:
        gm = AsyncGitMachine("local", repository=f"{server.url}/remote.git", session="feature")
        await gm.start()
        await gm.run("(i=0; while :; do i=$((i+1)); echo $i >> loop.txt; sleep 0.01; done) >/dev/null 2>&1 &")
        server.misbehave(Mischief.SLOW_PUSH)

        def release_later() -> None:
            wait_until(server.push_started.is_set)
            before = tip(remote, "feature")
            wait_until(lambda: (count := _lines(gm)) and count > 20)
            assert tip(remote, "feature") == before
            server.behave()

        def _lines(gm: AsyncGitMachine) -> int:
            home = next((Path(os.environ["GITMACHINE_HOME"]) / "state").rglob("loop.txt"), None)
            return len(home.read_text().splitlines()) if home is not None else 0

        thread = threading.Thread(target=release_later)
        thread.start()
        receipt = await gm.stop()
        thread.join()
    assert receipt is not None
    assert receipt.pushed
    lines = show(remote, "feature:loop.txt").splitlines()
    assert lines == [str(n) for n in range(1, len(lines) + 1)]
    assert len(lines) > 20
