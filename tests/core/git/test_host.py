"""Git on the host: its environment, its deadlines, and that a secret stays in a pipe.

Time budget: 30 s.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from gitmachine.errors import GitError
from gitmachine.git.host import GitCall, HostGit, Limits, end_process
from gitmachine.git.model import GitCredential
from gitmachine.git.names import check_repository
from support.repos import git, make_empty_remote, make_remote

CANARY = "canary-c0ffee-token"


def fake_git(directory: Path, script: str) -> HostGit:
    """A program in git's place, for what git itself cannot be made to do."""
    program = directory / "fake-git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return HostGit(program=str(program), limits=Limits(idle_seconds=60))


async def test_output_comes_back_exact(host):
    result = await host.run(GitCall(args=("hash-object", "--stdin"), stdin=b"hello\n"))
    assert result.exit_code == 0
    assert result.text == "ce013625030ba8dba906f756967f9e9ca394464a"


async def test_a_failure_says_what_git_said(host, tmp_path):
    make_empty_remote(tmp_path / "r.git")
    with pytest.raises(GitError, match="rev-parse exited 128") as caught:
        await host.run(GitCall(args=("rev-parse", "--verify", "nothing"), git_dir=tmp_path / "r.git"))
    assert caught.value.exit_code == 128
    assert caught.value.argv == ("git", "rev-parse", "--verify", "nothing")
    assert "Needed a single revision" in caught.value.stderr


async def test_the_callers_settings_and_helpers_do_not_reach_git(host, monkeypatch, tmp_path):
    (tmp_path / "evil").write_text("[core]\n\thooksPath = /evil\n[alias]\n\tx = !touch evil\n")
    for name, value in {
        "GIT_CONFIG_GLOBAL": str(tmp_path / "evil"),
        "GIT_DIR": "/evil",
        "GIT_ASKPASS": "/evil",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    listed = (await host.run(GitCall(args=("config", "--list", "--show-scope")))).text
    assert {line.split()[0] for line in listed.splitlines()} == {"command"}
    process = await fake_git(tmp_path, "env").run(GitCall(args=("x",)))
    assert CANARY not in process.text
    assert "/evil" not in process.text
    assert "GIT_TERMINAL_PROMPT=0" in process.text


async def test_hooks_of_a_repository_do_not_run(host, tmp_path):
    repository = make_remote(tmp_path / "r.git", commits=1)
    hook = repository / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    head = git("-C", repository, "rev-parse", "main")
    ran = tmp_path / "ran"
    ran.unlink(missing_ok=True)
    await host.run(GitCall(args=("update-ref", "refs/heads/other", head), git_dir=repository))
    assert not ran.exists()


async def test_only_the_protocol_of_the_remote_is_open(host, tmp_path):
    make_remote(tmp_path / "r.git", commits=1)
    with pytest.raises(GitError, match="transport 'file' not allowed"):
        await host.run(GitCall(args=("ls-remote", str(tmp_path / "r.git"))))
    call = GitCall(args=("ls-remote", f"ext::touch {tmp_path}/evil"), remote=check_repository(str(tmp_path / "r.git")))
    with pytest.raises(GitError, match="transport 'ext' not allowed"):
        await host.run(call)
    assert not (tmp_path / "evil").exists()


async def test_a_command_that_never_ends_is_killed_with_its_children(tmp_path):
    host = fake_git(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    began = time.monotonic()
    with pytest.raises(GitError, match="did not end within 1 s"):
        await host.run(GitCall(args=("x",), seconds=1))
    assert time.monotonic() - began < 30
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while _alive(child) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


async def test_silence_ends_a_transfer_but_progress_keeps_it_alive(tmp_path):
    host = fake_git(tmp_path, "for i in 1 2 3 4 5 6; do echo 'Receiving objects' >&2; sleep 0.4; done")
    assert (await host.run(GitCall(args=("x",), idle_seconds=20))).exit_code == 0
    silent = fake_git(tmp_path, "sleep 1000")
    with pytest.raises(GitError, match="moved nothing for"):
        await silent.run(GitCall(args=("x",), idle_seconds=0.5))


async def test_a_flood_of_output_is_ended(tmp_path):
    host = fake_git(tmp_path, "exec yes")
    host.limits = Limits(max_output_bytes=100_000)
    with pytest.raises(GitError, match="printed more than 100000 bytes"):
        await host.run(GitCall(args=("x",), seconds=60))


async def test_a_cancelled_command_is_killed(tmp_path):
    host = fake_git(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    task = asyncio.ensure_future(host.run(GitCall(args=("x",))))
    deadline = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _alive(int((tmp_path / "pid").read_text()))


async def test_a_missing_git_is_said_plainly():
    with pytest.raises(GitError, match="is not installed on this host"):
        await HostGit(program="/nonexistent/git").run(GitCall(args=("version",)))


async def test_a_credential_is_in_a_pipe_and_nowhere_else(tmp_path):
    # The program writes down all that it can see: arguments, environment, and what the pipe says.
    host = fake_git(
        tmp_path,
        f'for a in "$@"; do printf "%s\\n" "$a"; done > {tmp_path}/argv; env > {tmp_path}/env\n'
        f"source=$(sed -n 's/.*cat \\(<[^;]*\\);.*/\\1/p' {tmp_path}/argv)\n"
        'eval "cat $source"; echo; eval "cat $source"',
    )
    remote = check_repository("https://h/r.git")
    call = GitCall(args=("x",), remote=remote, credential=GitCredential("ada", CANARY))
    result = await host.run(call)
    assert result.text == f"username=ada\npassword={CANARY}"
    assert CANARY not in (tmp_path / "argv").read_text()
    assert CANARY not in (tmp_path / "env").read_text()
    assert CANARY not in repr(call)


async def test_messages_are_redacted_and_free_of_progress(tmp_path):
    host = fake_git(
        tmp_path, f"printf 'remote: Counting objects: 1\\rReceiving objects: 2\\rfatal: no {CANARY}\\n' >&2; exit 1"
    )
    host.redactor.add(CANARY)
    with pytest.raises(GitError) as caught:
        await host.run(GitCall(args=("fetch", CANARY)))
    assert caught.value.stderr == "fatal: no ***"
    assert CANARY not in str(caught.value) + repr(caught.value.argv)


async def test_descriptors_are_handed_over(host):
    reading, writing = os.pipe()
    process = await host.spawn(GitCall(args=("version",), fds=(reading,)))
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)
    await end_process(process)
